"""Where prompts are changed: one change at a time, in a thread of its own."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from jetlift.runtime.errors import BusyError, InputError, UsageError
from jetlift.runtime.view.worker import Worker

if TYPE_CHECKING:
    from types import TracebackType

    from jetlift.runtime.view.form import Prompting

_GRACE_S = 5.0


class PromptDesk:
    """Changes prompts for viewers; see Prompting.

    Args:
        prompting: How it is done, or why it cannot be.
    """

    def __init__(self, prompting: Prompting | str) -> None:
        self._prompting = prompting
        self._jobs: queue.SimpleQueue[tuple[list[str], Future[None]] | None] = queue.SimpleQueue()
        self._busy = threading.Lock()
        self._worker = Worker("view prompts", self._serve, lambda _error: None)

    def start(self) -> None:
        """Start the thread, where there is something to change."""
        if not isinstance(self._prompting, str):
            self._worker.start()

    def stop(self) -> None:
        """End the thread; a change that is under way is waited for.

        Raises:
            MachineError: It did not end.
        """
        self._jobs.put(None)
        self._worker.join(_GRACE_S)

    def change(self, prompts: object) -> Future[None]:
        """Put other prompts in force.

        Args:
            prompts: As a viewer sent them; checked here.

        Returns:
            Done when they are in force; has the task's own error where it refused them.

        Raises:
            UsageError: This task takes none.
            InputError: They are no list of texts, or too many, or too long.
            BusyError: Another change is under way.
        """
        if isinstance(self._prompting, str):
            raise UsageError(self._prompting)
        checked = _checked(prompts, self._prompting)
        if not self._busy.acquire(blocking=False):
            raise BusyError("Another change of prompts is under way", do="Try again in a moment")
        future: Future[None] = Future()
        future.add_done_callback(lambda _done: self._busy.release())
        self._jobs.put((checked, future))
        return future

    def _serve(self) -> None:
        prompting = self._prompting
        while not isinstance(prompting, str) and (job := self._jobs.get()) is not None:
            prompts, future = job
            with _Answer(future):
                prompting.change(prompts)


class _Answer:
    """Whatever ends the block is the future's answer."""

    def __init__(self, future: Future[None]) -> None:
        self._future = future

    def __enter__(self) -> None:
        """Nothing to begin with."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(error)
        return True


def _checked(prompts: object, prompting: Prompting) -> list[str]:
    if not isinstance(prompts, list) or not all(isinstance(item, str) for item in prompts):
        raise InputError("The prompts are no list of texts", expected='As in ["a cat", "a dog"]')
    kept = [item.strip() for item in prompts if item.strip()]
    if not kept:
        raise InputError("There is no prompt", expected="At least one, each on its own line")
    if len(kept) > prompting.most:
        raise InputError(f"There are {len(kept)} prompts", expected=f"{prompting.most} at most")
    longest = max(kept, key=len)
    if len(longest) > prompting.longest:
        raise InputError(
            f"The prompt '{longest[:40]}…' has {len(longest)} characters",
            expected=f"{prompting.longest} at most",
        )
    return kept
