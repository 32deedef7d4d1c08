"""One contender in a process of its own, in a Python of its own: run by path, knows no jetlift.

    python child.py JOB.json

The job says which way to take (`ways/MODULE.py`, a function of its WAYS), `threads`, `inputs` (an
.npz of `NUMBER/NAME` arrays) and the way's own `arguments`. The child loads once, answers with what
it loaded, and then does what each line on its standard input asks for:

    {"do": "time", "input": 0, "least_s": 0.2}     one turn; {"ms": [...]}, each run's time
    {"do": "output", "to": "FILE.npz"}             every input once; {"inputs": 8}
    {"do": "end"}

Rules:
    H1  Standard output carries answers alone, one JSON object a line; what a library prints there
        goes to stderr.
    H2  A turn begins with a run that is not timed where a run is short, since the other contenders
        have emptied the caches; it then lasts `least_s` at least.
    H3  It ends with its parent, even while it is stopped: the kernel sees to that.

Exit status: 0 done, 66 a package is missing (its name is the last line), else the contender failed
and its last line says why.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import signal
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Run = Callable[[int], Mapping[str, Any]]

MISSING = 66
OWN_MS = "own_ms"
_SHORT_S = 0.1
_MOST_RUNS = 200
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Load, then answer until the end."""
    _end_with_parent()
    own = str(Path(__file__).resolve().parent)
    # A script's own folder comes first on the import path, where modules beside it would be met.
    sys.path[:] = [path for path in sys.path if path and str(Path(path).resolve()) != own]
    answers = _own_stdout()
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        begun_s = time.perf_counter()
        run, count = _loaded(job)
        run(0)
        loaded_s = time.perf_counter() - begun_s
    except ImportError as error:  # some packages turn a missing one into a plain ImportError
        sys.stderr.write(f"\n{error.name or str(error).splitlines()[0]}\n")
        return MISSING
    _answer(answers, {"loaded_s": round(loaded_s, 3), "versions": _versions(job["packages"])})
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "end":
            return 0
        if asked["do"] == "time":
            _answer(answers, {"ms": _turn(run, asked["input"], asked["least_s"])})
        else:
            _answer(answers, _outputs(run, count, asked["to"]))
    return 0


def _loaded(job: Mapping[str, Any]) -> tuple[Run, int]:
    import numpy as np

    with np.load(job["inputs"], allow_pickle=False) as arrays:
        numbers = sorted({int(name.partition("/")[0]) for name in arrays.files})
        inputs = [
            {
                name.partition("/")[2]: arrays[name]
                for name in arrays.files
                if name.partition("/")[0] == str(number)
            }
            for number in numbers
        ]
    path = Path(__file__).parent / "ways" / f"{job['module']}.py"
    spec = importlib.util.spec_from_file_location(f"way_{job['module']}", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.WAYS[job["way"]](inputs, job["threads"], job["arguments"]), len(inputs)


def _turn(run: Run, index: int, least_s: float) -> list[float]:
    """Rule H2."""
    times_s = [_timed_s(run, index)]
    if times_s[0] < _SHORT_S:
        times_s = []
    while sum(times_s) < least_s and len(times_s) < _MOST_RUNS:
        times_s.append(_timed_s(run, index))
    return [round(value * 1e3, 5) for value in times_s]


def _timed_s(run: Run, index: int) -> float:
    begun_s = time.perf_counter()
    found = run(index)
    passed_s = time.perf_counter() - begun_s
    return float(found[OWN_MS]) / 1e3 if OWN_MS in found else passed_s  # a tool that times itself


def _outputs(run: Run, count: int, destination: str) -> dict[str, Any]:
    import numpy as np

    found = {
        f"{index}/{name}": np.array(value)  # some libraries lend their memory until the next run
        for index in range(count)
        for name, value in run(index).items()
    }
    with Path(destination).open("wb") as handle:
        np.savez(handle, **found)  # type: ignore[arg-type]  # numpy's stub takes the names for its own
    with Path("/proc/self/status").open(encoding="utf-8") as lines:
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return {"inputs": count, "peak_bytes": kib * 1024}


def _versions(packages: list[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    torch = sys.modules.get("torch")
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show()) if torch is not None else None
    return found if blas is None else found | {"torch's BLAS": blas[1]}


def _answer(answers: IO[str], content: Mapping[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def _own_stdout() -> IO[str]:
    """Rule H1."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding="utf-8")


def _end_with_parent() -> None:
    """Rule H3."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
