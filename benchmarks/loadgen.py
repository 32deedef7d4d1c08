"""MLPerf's LoadGen draws the load, a session of ours bears it.

Rules:
    D1  LoadGen calls back from threads of its own and must not wait there: queries go to one
        thread, which has the session to itself, in their order.
    D2  Samples are cut into runs of the engine's batch; the last run of a query is filled up.
    D3  A run that fails is the scenario's end: the error is kept, what is still asked is answered
        at once and slowly enough not to swell LoadGen's log, and the error is raised afterwards.
    D4  LoadGen's objects are given back and the thread ended on every way out.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks.loadgen_log import read_log
from jetlift.runtime.errors import MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import ModuleType

    from typing_extensions import Self

_AFTER_FAILURE_S = 0.02
_LIBRARY_SAMPLES = 64  # indices that LoadGen draws from; all stand for the same inputs


def loadgen() -> ModuleType:
    """The package `mlperf_loadgen`.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import mlperf_loadgen
    except ModuleNotFoundError as error:
        if error.name != "mlperf_loadgen":
            raise
        raise MissingPackageError(
            "mlcommons-loadgen", extra="loadgen", purpose="to play MLPerf's scenarios"
        ) from error
    return mlperf_loadgen  # type: ignore[no-any-return]


class Kept:
    """Keeps an exception of its block instead of letting it out.

    Attributes:
        error: The first one; None while there is none.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self.error = self.error or error
        return True


class Bearer:
    """The thread that answers queries (rules D1 to D3). A context manager.

    Args:
        run: Computes one batch.
        batch: Items of it.
        answer: Told the ids of samples that are done.
    """

    def __init__(
        self, run: Callable[[], object], batch: int, answer: Callable[[Sequence[int]], None]
    ) -> None:
        self._run, self._batch, self._answer = run, batch, answer
        self._queries: queue.SimpleQueue[tuple[int, ...] | None] = queue.SimpleQueue()
        self._kept, self._ended = Kept(), threading.Event()
        self._thread = threading.Thread(target=self._bear, name="bearer", daemon=True)

    def ask(self, ids: Sequence[int]) -> None:
        """Take a query; returns at once."""
        self._queries.put(tuple(ids))

    def check(self) -> None:
        """Raise what a run raised, if one did; to be called when the scenario is over.

        Raises:
            Exception: What `run` raised first.
        """
        if self._kept.error is not None:
            raise self._kept.error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread after the run it is in; what is still asked is answered without one."""
        self._ended.set()
        self._queries.put(None)
        self._thread.join()

    def _bear(self) -> None:
        while (asked := self._queries.get()) is not None:
            if self._kept.error is not None:
                self._ended.wait(_AFTER_FAILURE_S)
            for start in range(0, len(asked), self._batch):
                if self._kept.error is None and not self._ended.is_set():
                    with self._kept:
                        self._run()
                self._answer(asked[start : start + self._batch])


def bear(
    run: Callable[[], object], settings: Callable[[ModuleType], Any], batch: int, folder: Path
) -> dict[str, Any]:
    """Let LoadGen draw one scenario, and read what it wrote (rules D1 to D4).

    Args:
        run: Computes one batch.
        settings: Makes LoadGen's TestSettings of its module.
        batch: Items of one run.
        folder: Where LoadGen writes its logs; made here.

    Raises:
        MissingPackageError: LoadGen is not installed.
        Exception: What `run` raised (rule D3).
        MachineError: LoadGen came to no verdict.
    """
    lg = loadgen()
    folder.mkdir(parents=True, exist_ok=True)

    def answer(ids: Sequence[int]) -> None:
        lg.QuerySamplesComplete([lg.QuerySampleResponse(one, 0, 0) for one in ids])

    with contextlib.ExitStack() as stack:
        bearer = stack.enter_context(Bearer(run, batch, answer))
        system = lg.ConstructSUT(lambda asked: bearer.ask([one.id for one in asked]), _nothing)
        stack.callback(lg.DestroySUT, system)
        library = lg.ConstructQSL(_LIBRARY_SAMPLES, _LIBRARY_SAMPLES, _nothing, _nothing)
        stack.callback(lg.DestroyQSL, library)
        lg.StartTestWithLogSettings(system, library, settings(lg), _log_settings(lg, folder))
    bearer.check()
    return read_log(folder)


def _log_settings(lg: ModuleType, folder: Path) -> Any:  # noqa: ANN401 - the library ships no types
    output = lg.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = str(folder), False
    settings = lg.LogSettings()
    settings.log_output, settings.enable_trace = output, False
    return settings


def _nothing(*_: object) -> None:
    return
