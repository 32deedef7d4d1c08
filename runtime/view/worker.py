"""A thread that keeps the error which ended it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from jetlift.runtime.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Worker:
    """One thread with a body. A daemon, so that one that hangs cannot keep the process alive.

    Args:
        name: The thread's name.
        body: What it does; returns when it was told to stop.
        on_failure: Called in the thread with the error that ended it.
    """

    def __init__(
        self, name: str, body: Callable[[], None], on_failure: Callable[[BaseException], None]
    ) -> None:
        self.error: BaseException | None = None
        self._body, self._on_failure = body, on_failure
        self._thread = threading.Thread(target=self._run, name=f"jetlift {name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, grace_s: float) -> None:
        """Wait until it has ended.

        Raises:
            MachineError: It has not within `grace_s`.
        """
        if self._thread.ident is None:
            return
        self._thread.join(grace_s)
        if self._thread.is_alive():
            raise MachineError(
                f"The thread '{self._thread.name}' did not end within {grace_s:g} s",
                expected="A library that returns from its calls",
                do="End this process; check the device's log for what it waits for",
            )

    def _run(self) -> None:
        with self:
            self._body()

    def __enter__(self) -> None:
        """Nothing to begin with."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Keep whatever ended the body; nothing is printed by the thread."""
        if error is not None:
            self.error = error
            self._on_failure(error)
        return True
