"""A run as a service: what the manager is told, what signals do, what is logged. docs/service.md.

Rules:
    W1  The manager hears READY when the first engine is loaded and inputs are open, STOPPING when
        draining begins, RELOADING when a reload begins and READY when it has ended, whether it
        worked or not: a bundle that is refused leaves the old one at work.
    W2  Everything told to the manager is logged too.
    W3  What a signal asks for is done by a thread of jetlift.runtime.signals, so the calls given
        here must return soon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.runtime.closing import Closing
from jetlift.runtime.notify import Notifier, Watchdog
from jetlift.runtime.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.errors import JetliftError
    from jetlift.runtime.logs import Log


class Service(Closing):
    """Signals, the service manager and its watchdog around one run (rules W1 to W3).

    A context manager, entered in the main thread. Works the same without a service manager, where
    it takes the signals and logs.

    Args:
        log: Where events are told.
        drain: Ends the run once what is under way is done.
        stop: Ends the run at once.
        alive: Whether the run makes progress, for the watchdog. A camera that is being sought
            again is progress; a stage that hangs is none.
        reload: Asks for a reload, as Reloader.request; None where there is nothing to reload.
        notifier: The manager; the one of this process's environment where it is None.
        clock: What the watchdog waits by; the machine's where it is None.
    """

    def __init__(
        self,
        log: Log,
        *,
        drain: Callable[[], None],
        stop: Callable[[], None],
        alive: Callable[[], bool],
        reload: Callable[[], None] | None = None,
        notifier: Notifier | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._log, self._drain, self._stop, self._reload = log, drain, stop, reload
        self._alive, self._clock = alive, clock
        self._notifier = Notifier() if notifier is None else notifier
        self._signals = Signals(self._draining, self._stopping, self._reloading)
        self._watchdog: Watchdog | None = None

    @property
    def draining(self) -> bool:
        """Whether it was told to end."""
        return self._signals.draining

    def __enter__(self) -> Self:
        self._signals.__enter__()
        return self

    def starting(self, status: str) -> None:
        """What it does before it is ready, which may take minutes."""
        self._notifier.status(status)
        self._notifier.extend_start()
        self._log.event("info", "starting", status=status)

    def ready(self, status: str = "") -> None:
        """It works now (rule W1); from here on the watchdog is fed."""
        self._notifier.ready(status)
        self._log.event("info", "ready", status=status)
        if self._watchdog is None:
            given = () if self._clock is None else (self._clock,)
            self._watchdog = Watchdog(self._notifier, self._alive, *given)

    def status(self, status: str) -> None:
        """One line for `systemctl status`; it is no event, so it is not logged."""
        self._notifier.status(status)

    def reloaded(self, failed: JetliftError | None) -> None:
        """How a reload ended: the `told` of a Reloader (rule W1)."""
        if failed is None:
            self._log.event("info", "reloaded")
            self._notifier.ready("reloaded")
        else:
            self._log.event("error", "reload failed, the old bundle goes on", reason=str(failed))
            self._notifier.ready("the last reload failed; the old bundle goes on")

    def _draining(self) -> None:
        self._notifier.stopping("finishing what is under way")
        self._log.event("info", "draining", hint="a second signal stops at once")
        self._drain()

    def _stopping(self) -> None:
        self._log.event("warning", "stopping at once")
        self._stop()

    def _reloading(self) -> None:
        self._notifier.reloading()
        self._log.event("info", "reloading")
        if self._reload is None:
            self._log.event("warning", "there is nothing to reload")
            self._notifier.ready()
        else:
            self._reload()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._log.event("error", "failed", kind=type(error).__name__, reason=str(error))
        self.close()

    def close(self) -> None:
        """Put the signals back and end every thread. A second call does nothing."""
        self._notifier.stopping()
        if self._watchdog is not None:
            self._watchdog.close()
        self._signals.close()
        if self._notifier.trouble:
            lost = self._notifier.lost
            self._log.event("warning", self._notifier.trouble, lost=lost)
        self._notifier.close()
