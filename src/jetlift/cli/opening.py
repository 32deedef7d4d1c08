"""Opens a bundle, and an engine of one of its parts, telling what the user should know of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from jetlift import console

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session


def open_bundle(folder: Path, *, allow_random: bool) -> Bundle:
    """Open a bundle to do something useful with it.

    Raises:
        ArtefactError: Its weights are random and the user did not say that this is wanted.
        JetliftError: As `Bundle.open`.
    """
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.errors import ArtefactError

    opened = Bundle.open(folder)
    if opened.manifest.weights.random and not allow_random:
        raise ArtefactError(
            f"The weights of {folder} are random ({opened.manifest.weights.source}), so its "
            "answers mean nothing",
            expected="A bundle of trained weights",
            do="Export it with --weights, or add --allow-random to see the structure at work",
        )
    if opened.manifest.weights.random:
        console.say("The weights are random: this shows the structure, and no answer is one.")
    return opened


def mark_of(bundle: Bundle) -> dict[str, str]:
    """What every result of a bundle has to say of its weights; nothing of trained ones."""
    return {"weights": "random"} if bundle.manifest.weights.random else {}


def input_part(bundle: Bundle, part: str | None = None) -> str:
    """The part that takes the inputs: the named one, or the only one that can be meant.

    A model that compares pictures with words is meant for pictures.

    Raises:
        UnknownNameError: No such part, or several that could be meant.
    """
    able = [name for name, item in bundle.manifest.parts.items() if item.preprocess is not None]
    if part is None and bundle.manifest.zero_shot is not None:
        part = bundle.manifest.zero_shot.image
    return bundle.part(part or (able[0] if len(able) == 1 else None))[0]


@contextlib.contextmanager
def session_of(
    bundle: Bundle, part: str, precision: str | None, target: str, threads: int | None
) -> Iterator[tuple[str, Session]]:
    """Open a session of a part, and tell what the user should know.

    Yields:
        The variant, and the session.
    """
    from jetlift.runtime.choice import choose_precision
    from jetlift.runtime.session import open_session

    chosen = precision or choose_precision(bundle, part, target)
    notices: list[str] = []
    if target == "cpu" and not bundle.engine_path(target, part, chosen).exists():
        console.say(
            f"No engine is built for cpu, so the {chosen} graph is compiled now. "
            f"To keep one: jetlift build {bundle.folder}"
        )
    with open_session(
        bundle, part, chosen, target=target, threads=threads, notices=notices
    ) as session:
        for notice in notices:
            console.say(notice)
        yield chosen, session
