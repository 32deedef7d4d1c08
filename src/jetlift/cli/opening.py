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


@contextlib.contextmanager
def session_of(
    bundle: Bundle, part: str, precision: str | None, target: str, threads: int | None
) -> Iterator[tuple[str, Session]]:
    """Open a session of a part, and tell what the user should know.

    Yields:
        The variant, and the session.
    """
    from jetlift.runtime.opening import Engines, open_engine

    engine = open_engine(bundle, part, Engines(target, precision, threads), console.say)
    with engine.session as session:
        yield engine.variant, session


@contextlib.contextmanager
def opened_session(
    folder: Path,
    precision: str | None,
    target: str,
    threads: int | None,
    *,
    part: str | None = None,
    allow_random: bool = False,
) -> Iterator[tuple[Bundle, str, str, Session]]:
    """Open a bundle and a session of the part that takes its inputs.

    Yields:
        The bundle, the part, the variant, and the session.
    """
    from jetlift.runtime.tasks import input_part

    opened = open_bundle(folder, allow_random=allow_random)
    name = input_part(opened, part=part)
    with session_of(opened, name, precision, target, threads) as (chosen, session):
        yield opened, name, chosen, session
