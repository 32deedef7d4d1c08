"""What a program gives to a task, as an item that a task takes.

Rules:
    A2  One input is one item. Whatever holds several (a folder, a video, a camera) is refused here
        and goes through `LoadedTask.stream`.
    A3  An array is a picture as OpenCV has it: uint8 [H, W, 3] in BGR order. Nothing is converted
        in silence: another dtype, shape or kind is refused.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.audio import Sound
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.manifest import TextPreprocess
from jetlift.runtime.poses import PoseItem
from jetlift.runtime.run import open_inputs
from jetlift.runtime.sounds import SoundItem
from jetlift.runtime.sources import Frame
from jetlift.runtime.texts import ARGUMENT, TextItem

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from typing import TypeAlias

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.tasks.base import Item

    One: TypeAlias = str | Path | npt.NDArray[np.uint8] | Sound | Item

ARRAY, SOUND = "array", "sound"  # sources of what is no file
_ITEMS = (Frame, TextItem, SoundItem, PoseItem)


def item_of(bundle: Bundle, part: str, given: One, number: int) -> Item:
    """One input as a task takes it (rules A2 and A3).

    Args:
        bundle: The bundle.
        part: The part that takes it.
        given: A path, a picture (uint8 [H, W, 3], BGR), a text where the part reads texts, a Sound,
            or an item of a source.
        number: Its `index` where it is no file.

    Raises:
        InputError: It cannot be read, or holds several inputs.
        UsageError: It is of another kind.
    """
    if isinstance(given, _ITEMS):
        return given
    if isinstance(given, np.ndarray):
        return Frame(ARRAY, number, 0.0, _picture(given))
    if isinstance(given, Sound):
        return SoundItem(SOUND, number, given)
    reads_text = isinstance(bundle.part(part)[1].preprocess, TextPreprocess)
    if isinstance(given, str) and reads_text:
        return TextItem(ARGUMENT, number, _some_text(given))
    if isinstance(given, (str, Path)):
        return _only(bundle, part, str(given))
    raise UsageError(
        f"Got a {type(given).__name__}",
        expected="A path, a picture as an array, a text, a Sound, or a list of these",
    )


def _only(bundle: Bundle, part: str, name: str) -> Item:
    """The one input that a name stands for (rule A2)."""
    with open_inputs(bundle, part, [name]) as items:
        if (items.count or 1) == 1:
            with closing(_each(items)) as each:
                first = next(each)
                if next(each, None) is None:
                    return first
    raise InputError(
        f"{name} holds more than one input",
        expected="One picture, text or sound",
        do="Go through them with the task's stream()",
    )


def _each(items: Iterable[Item]) -> Generator[Item, None, None]:
    yield from items


def _picture(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """A picture as it is (rule A3)."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UsageError(
            f"Got an array of {array.dtype}{list(array.shape)}",
            expected="A picture as OpenCV has it: uint8 [height, width, 3] in BGR order",
        )
    return np.ascontiguousarray(array)


def _some_text(text: str) -> str:
    if not text.strip():
        raise InputError("Got a text without visible characters", expected="At least one")
    return text
