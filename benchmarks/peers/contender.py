"""A contender's process, seen from outside: it computes only when it is asked to.

Rules:
    K1  Each contender is a process of its own, in the Python that has its packages, with its
        threads fixed in every way that libraries read.
    K2  Only one computes at a time: between its turns a process is stopped by SIGSTOP, so that no
        thread of it can spin or collect.
    K3  One that dies, hangs or answers rubbish is told in its own last words, and is gone. No
        process is left, whatever happens here.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks.peers.child import MISSING
from jetlift.benchmarks.quantisers import last_words
from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping

CHILD = Path(__file__).with_name("child.py")
INSTALL = "Name a Python that has it with --python NAME=PATH"
LOAD_LIMIT_S, TURN_LIMIT_S = 300.0, 120.0
_END_LIMIT_S = 10.0
_OFFLINE = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false", "TOKENIZERS_PARALLELISM": "false", "PYTHONSAFEPATH": "1",
}  # fmt: skip
_THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """How a contender computes.

    Attributes:
        module: File in `ways`.
        name: Function of its WAYS.
        python: Which Python it runs in, by name.
        packages: Distributions whose versions are told.
        arguments: What the function is given.
    """

    module: str
    name: str
    python: str
    packages: tuple[str, ...]
    arguments: Mapping[str, Any]


class ContenderProcess(Closing):
    """A contender's process (rules K1 to K3). Nothing computes once it is made.

    Args:
        way: How it computes.
        python: The interpreter.
        inputs: An .npz of `NUMBER/NAME` arrays.
        threads: Threads it is given.
        load_limit_s: Seconds until its first result.

    Attributes:
        loaded: What it said of itself: `loaded_s` and `versions`.

    Raises:
        MachineError: It did not get as far as its first result; what it asks to do is INSTALL where
            the Python or a package is not there.
    """

    def __init__(
        self,
        way: Way,
        python: str,
        inputs: Path,
        threads: int,
        *,
        load_limit_s: float = LOAD_LIMIT_S,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="jetlift-peers-")
        job = {
            "module": way.module, "way": way.name, "threads": threads, "inputs": str(inputs),
            "packages": list(way.packages), "arguments": dict(way.arguments),
        }  # fmt: skip
        path, self._said = Path(self._folder.name) / "job.json", Path(self._folder.name) / "said"
        path.write_text(json.dumps(job), encoding="utf-8")
        try:
            self._process = self._started([python, str(CHILD), str(path)], threads)
        except OSError as error:
            self._folder.cleanup()
            raise MachineError(f"{Path(python).name}: {error.strerror}", do=INSTALL) from error
        self._stopped, self._read = False, b""
        try:
            self.loaded = self._answer("loaded_s", load_limit_s)
        except BaseException:
            self.close()
            raise
        self._stop()

    def _started(self, command: list[str], threads: int) -> subprocess.Popen[bytes]:
        environment = os.environ | _OFFLINE | dict.fromkeys(_THREADS, str(threads))
        environment.pop("PYTHONPATH", None)
        with self._said.open("wb") as said:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                env=environment, cwd=self._folder.name,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends it
            )  # fmt: skip

    def time(self, index: int, least_s: float, limit_s: float = TURN_LIMIT_S) -> list[float]:
        """One turn on an input: milliseconds of each run.

        Raises:
            MachineError: It died, hung, or answered rubbish.
        """
        asked = {"do": "time", "input": index, "least_s": least_s}
        found = self._ask(asked, "ms", limit_s)["ms"]
        if not isinstance(found, list) or not found:
            raise MachineError(f"It answered {found!r} in place of times")
        return [float(value) for value in found]

    def output(self, destination: Path, limit_s: float = LOAD_LIMIT_S) -> dict[str, Any]:
        """Have it compute every input once and write the outputs.

        Returns:
            `inputs`, their number, and `peak_bytes`.

        Raises:
            MachineError: It died, hung, or answered rubbish.
        """
        return self._ask({"do": "output", "to": str(destination)}, "inputs", limit_s)

    def _ask(self, asked: Mapping[str, Any], key: str, limit_s: float) -> dict[str, Any]:
        try:
            return self._asked(asked, key, limit_s)
        except MachineError:
            self.close()  # rule K3: what hangs must not compute beside the others
            raise

    def _asked(self, asked: Mapping[str, Any], key: str, limit_s: float) -> dict[str, Any]:
        pipe = self._process.stdin
        if pipe is None or self._process.poll() is not None:
            raise MachineError(self._death())
        self._go_on()
        try:
            pipe.write(json.dumps(asked).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError as error:
            raise MachineError(self._death()) from error
        found = self._answer(key, limit_s)
        self._stop()
        return found

    def _answer(self, key: str, limit_s: float) -> dict[str, Any]:
        line = self._line(limit_s)
        try:
            found = json.loads(line)
        except ValueError as error:
            raise MachineError(f"It answered something unreadable: {line[:80]!r}") from error
        if not isinstance(found, dict) or key not in found:
            raise MachineError(f"It answered {line[:80]!r}, which has no {key}")
        return found

    def _line(self, limit_s: float) -> bytes:
        pipe, until_s = self._process.stdout, time.monotonic() + limit_s
        if pipe is None:
            raise MachineError("It has no output")
        with selectors.DefaultSelector() as ready:
            ready.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not ready.select(max(0.0, until_s - time.monotonic())):
                    raise MachineError(f"It gave no answer within {limit_s:.0f} s and was ended")
                piece = os.read(pipe.fileno(), 65536)
                if not piece:
                    raise self._ended()
                self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _ended(self) -> MachineError:
        try:
            code = self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            return MachineError("It closed its output and went on")
        if code == MISSING:
            return MachineError(f"{self._last_words()} is not in its Python", do=INSTALL)
        return MachineError(self._death())

    def _death(self) -> str:
        code, words = self._process.poll(), self._last_words()
        how = (
            f"It was stopped by signal {-code}, which may be the system out of memory"
            if code is not None and code < 0
            else f"It ended with code {code}"
        )
        return f"{how}: {words}" if words else how

    def _last_words(self) -> str:
        if not self._said.is_file():  # it is closed
            return ""
        return last_words(self._said.read_text(encoding="utf-8", errors="replace"))

    def _stop(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)
        self._stopped = True

    def _go_on(self) -> None:
        if self._stopped:
            os.kill(self._process.pid, signal.SIGCONT)
            self._stopped = False

    def close(self) -> None:
        """End the process; a second call does nothing."""
        if self._process.poll() is None:
            self._process.kill()  # which reaches a stopped process too
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what it never read
                    pipe.close()
        self._folder.cleanup()
