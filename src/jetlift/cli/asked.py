"""What a run was asked for, and the task with its engines that comes of it."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jetlift import console

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jetlift.cli.live import Live
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.opening import Engines
    from jetlift.runtime.pipeline.holder import TaskHolder
    from jetlift.runtime.run_facts import RunEngine
    from jetlift.runtime.tasks.base import Task
    from jetlift.runtime.view.form import Prompting


@dataclass
class Asked:
    """What a user asked for, checked.

    Attributes:
        bundle: The bundle.
        task: The task's name.
        part: The part that takes the inputs, where several could.
        engines: Which engines.
        artefacts: What the task takes beside them.
        inputs: As they were named.
        limit: Inputs at most.
        out: Folder for the results.
        live: Everything else.
        reopen: Opens the bundle again for a reload, with the artefacts of then.
        show: Called with each result's fields where they go to standard output.
        mark: Fields to add to every result.
        changing: Held while the task is exchanged or gets other words, which must not meet: the
            words' task would rest on engines that are closed.
    """

    bundle: Bundle
    task: str
    part: str | None
    engines: Engines
    artefacts: dict[str, Any]
    inputs: Sequence[str]
    limit: int | None
    out: Path | None
    live: Live
    reopen: Callable[[], Bundle]
    show: Callable[[dict[str, Any]], None] | None = None
    mark: dict[str, str] = field(default_factory=dict)
    changing: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Opened:
    """A task with the engines that it rests on, which `close` gives back."""

    bundle: Bundle
    task: Task
    part: str
    engines: tuple[RunEngine, ...]
    stack: contextlib.ExitStack

    def close(self) -> None:
        """Close the engines."""
        self.stack.close()


def open_task_of(asked: Asked, bundle: Bundle) -> Opened:
    """Open the task and its engines.

    Raises:
        JetliftError: As `open_bound`.
    """
    from jetlift.runtime.opening import open_bound

    stack = contextlib.ExitStack()
    with contextlib.ExitStack() as unwinding:
        unwinding.callback(stack.close)
        task, part, engines = open_bound(
            bundle, asked.task, asked.engines, asked.artefacts, stack, console.say, part=asked.part
        )
        unwinding.pop_all()
    return Opened(bundle, task, part, engines, stack)


def open_task_again(asked: Asked, bundle: Bundle) -> Opened:
    """Open the task of a bundle that took the place of the one that runs.

    The features of the user's words are of the old one, so they are computed anew.

    Raises:
        JetliftError: As `open_bound`.
    """
    from jetlift.runtime.opening import compute_prompts

    words = asked.artefacts.get("prompts")
    artefacts = dict(asked.artefacts)
    if words is not None and bundle.sha256 != asked.bundle.sha256:
        made = compute_prompts(
            bundle, words.head.prompts, asked.engines, console.say, templates=words.head.templates
        )
        artefacts["prompts"] = made
    again = replace(asked, bundle=bundle, artefacts=artefacts)
    opened = open_task_of(again, bundle)
    asked.bundle, asked.artefacts = bundle, artefacts
    return opened


def chosen_engines(bundle: Bundle, task: str, part: str | None, engines: Engines) -> Engines:
    """The engines of this machine where the target is `auto`; else those that were asked for."""
    from jetlift.runtime.auto_target import AUTO, choose_target
    from jetlift.runtime.tasks import input_part, other_parts

    if engines.target != AUTO:
        return engines
    first = input_part(bundle, task, part)
    choice = choose_target(bundle, (first, *other_parts(bundle, task, first)), engines.precision)
    for notice in choice.notices:
        console.say(notice)
    return replace(engines, target=choice.target, precision=choice.precision or engines.precision)


class LiveWords:
    """The words that a running task compares with, which a viewer may change.

    Args:
        asked: What the run was asked for; its words follow.
        holder: Holds the task.
        opened: Tells the engines that are in use.
    """

    def __init__(self, asked: Asked, holder: TaskHolder, opened: Callable[[], Opened]) -> None:
        self._asked, self._holder, self._opened = asked, holder, opened

    def prompting(self) -> Prompting | str:
        """How a viewer changes them, or why that cannot be."""
        from jetlift.runtime.opening import takes_words
        from jetlift.runtime.view.form import Prompting

        if not takes_words(self._asked.bundle, self._asked.task):
            return f"{self._asked.task} of {self._asked.bundle.manifest.model} takes no words."
        return Prompting(self._current, self._change)

    def _current(self) -> tuple[str, ...]:
        words = self._asked.artefacts.get("prompts")
        return () if words is None else tuple(words.head.prompts)

    def _change(self, words: list[str]) -> None:
        """Compute the features of other words, and use them from the next frame on.

        The text part's engine is in memory for as long as that takes; the others stay as they are.

        Raises:
            BusyError: The bundle is being opened again.
            JetliftError: What computing them raises.
        """
        from jetlift.runtime.errors import BusyError

        if not self._asked.changing.acquire(blocking=False):
            raise BusyError("The bundle is being opened again", do="Try again in a moment")
        try:
            self._change_now(words)
        finally:
            self._asked.changing.release()

    def _change_now(self, words: list[str]) -> None:
        from jetlift.runtime.opening import compute_prompts
        from jetlift.runtime.tasks import needs_every_part, open_task

        opened, asked = self._opened(), self._asked
        before = asked.artefacts.get("prompts")
        templates = () if before is None else before.head.templates
        made = compute_prompts(
            opened.bundle, words, asked.engines, console.say, templates=templates
        )
        given = asked.artefacts | {"prompts": made}
        if needs_every_part(asked.task):
            given["others"] = {item.part: item.session for item in opened.engines[1:]}
        first = opened.engines[0]
        task = open_task(
            asked.task, opened.bundle, first.session,
            precision=first.variant, part=opened.part, **given,
        )  # fmt: skip
        self._holder.replace(task)
        asked.artefacts["prompts"] = made
