"""Input after input through a task, and every result to where it belongs.

Rules:
    R1  `results.jsonl` has one line per input, in order; arrays go to `results.npz`, pictures,
        drawn or made, to `pictures/`, captions to `captions/`, and a single video also becomes
        `annotated.mp4`.
    R2  An input that cannot be read is counted and named, and the rest goes on.
    R3  Whatever ends the run early, the sources are closed and no file looks finished that is not.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jetlift.runtime.captions import CaptionSink
from jetlift.runtime.drawing import with_warning
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.manifest import AudioPreprocess, TextPreprocess
from jetlift.runtime.poses import open_poses
from jetlift.runtime.sinks import JsonlSink, NpzSink, PictureSink, VideoSink
from jetlift.runtime.sounds import open_sounds
from jetlift.runtime.sources import open_source
from jetlift.runtime.task_forms import PosePreprocess
from jetlift.runtime.texts import open_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.poses import PoseSource
    from jetlift.runtime.sounds import SoundSource
    from jetlift.runtime.sources import Source
    from jetlift.runtime.tasks.base import Item, Outcome, Task
    from jetlift.runtime.texts import TextSource

    Inputs = Source | TextSource | SoundSource | PoseSource

RESULTS_NAME, ARRAYS_NAME = "results.jsonl", "results.npz"
PICTURES_FOLDER, CAPTIONS_FOLDER, VIDEO_NAME = "pictures", "captions", "annotated.mp4"
_VIDEO_FPS = 30.0


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        done: Inputs with a result.
        skipped: Inputs that could not be read, with the reason.
        out: Where the results lie, or None.
        notes: What the user should know of the inputs.
    """

    done: int
    skipped: tuple[tuple[str, str], ...]
    out: Path | None
    notes: tuple[str, ...] = ()


def open_inputs(
    bundle: Bundle, part: str, inputs: Sequence[str], *, limit: int | None = None
) -> Inputs:
    """Open the inputs as the part takes them: pictures, texts, sounds or camera poses.

    Raises:
        InputError: One of them cannot be used.
        UsageError: There are none, or one is of a kind that this version does not read.
    """
    preprocess = bundle.part(part)[1].preprocess
    if isinstance(preprocess, TextPreprocess):
        return open_texts(inputs, limit=limit, literal=True)
    if isinstance(preprocess, AudioPreprocess):
        return open_sounds(inputs, limit=limit)
    if isinstance(preprocess, PosePreprocess):
        scene = bundle.manifest.radiance
        if scene is None:
            raise UsageError(
                f"Part {part} takes camera poses, and the bundle states no scene",
                expected="A radiance field, such as nerf",
            )
        return open_poses(inputs, scene, limit=limit)
    return open_source(inputs, limit=limit)


def run_task(
    task: Task,
    source: Inputs,
    *,
    out: Path | None = None,
    show: Callable[[dict[str, Any]], None] | None = None,
    advance: Callable[[], None] | None = None,
    mark: Mapping[str, Any] | None = None,
) -> RunSummary:
    """Process every input of a source (rules R1 to R3).

    Args:
        task: An open task.
        source: Opened inputs; the caller closes them.
        out: Folder for the results; it must be new or empty. None writes nothing.
        show: Called with each result.
        advance: Called after each input.
        mark: Fields to add to every result and to tell on every picture, as that the weights
            are random.

    Raises:
        InputError: The folder holds files already, or no input could be read.
        JetliftError: Whatever the task raises.
    """
    done = 0
    with ExitStack() as stack:
        writer = None
        if out is not None:
            writer = stack.enter_context(_Writer(task, source, out, mark))
        for item in source:
            outcome = _marked(task.process(item), mark)
            if writer is not None:
                writer.write(item, outcome)
            if show is not None:
                show(outcome.fields)
            done += 1
            if advance is not None:
                advance()
    skipped = tuple((entry.source, entry.reason) for entry in getattr(source, "skipped", ()))
    return RunSummary(done, skipped, out, task.notes)


def _marked(outcome: Outcome, mark: Mapping[str, Any] | None) -> Outcome:
    return replace(outcome, fields=outcome.fields | dict(mark)) if mark else outcome


class _Writer:
    """The sinks of one run."""

    def __init__(
        self, task: Task, source: Inputs, out: Path, mark: Mapping[str, Any] | None = None
    ) -> None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(
                f"{out} is there already and not empty",
                expected="A new folder, so that results of two runs never mix",
                do="Choose another one with -o",
            )
        self._task, self._out, self._stack = task, out, ExitStack()
        self._warning = ", ".join(f"{name}: {value}" for name, value in (mark or {}).items())
        self._fps = getattr(source, "fps", None)
        self._pictures: dict[str, PictureSink] = {}
        self._video: VideoSink | None = None
        self._captions: CaptionSink | None = None

    def __enter__(self) -> Self:
        self._lines = self._stack.enter_context(JsonlSink(self._out / RESULTS_NAME))
        self._arrays = self._stack.enter_context(NpzSink(self._out / ARRAYS_NAME))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, item: Item, outcome: Outcome) -> None:
        fields = outcome.fields
        self._lines.write(fields)
        if outcome.arrays:
            row = (fields["source"], fields["index"], fields["time_s"], outcome.arrays)
            self._arrays.write(*row)
        if outcome.files:
            self._captions = self._captions or CaptionSink(self._out / CAPTIONS_FOLDER)
            self._captions.write(item.source, outcome.files)
        for label, image in outcome.images.items():
            self._picture(label, item, self._marked(image))
        drawn = self._task.draw(item, outcome)
        if drawn is None:
            return
        drawn = self._marked(drawn)
        if self._fps is not None:
            if self._video is None:
                path, fps = self._out / VIDEO_NAME, self._fps or _VIDEO_FPS
                self._video = self._stack.enter_context(VideoSink(path, fps=fps))
            self._video.write(drawn)
            return
        self._picture(self._task.name, item, drawn)

    def _marked(self, image_bgr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return with_warning(image_bgr, self._warning) if self._warning else image_bgr

    def _picture(self, label: str, item: Item, image_bgr: npt.NDArray[np.uint8]) -> None:
        sink = self._pictures.get(label)
        if sink is None:
            sink = self._pictures[label] = PictureSink(self._out / PICTURES_FOLDER, label=label)
        sink.write(item.source, item.index, image_bgr)
