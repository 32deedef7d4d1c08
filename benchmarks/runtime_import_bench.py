"""What importing `jetlift.runtime` costs over numpy and cv2: time and memory, medians.

    python benchmarks/runtime_import_bench.py [--runs 11]

Each run is a child process of its own. It imports numpy and cv2, then `jetlift.runtime`, then
touches everything that package offers (which loads sources, tasks and sinks, but no engine
library). Both figures count from numpy and cv2. Exit code 1 where the first is above the limits;
the second is printed for whoever uses it all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

LIMIT_MS, LIMIT_MB = 60.0, 15.0
STEPS = ("import jetlift.runtime", "and all it offers")

CHILD = """
import json, time
import numpy, cv2

def resident_mb():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

start_s, start_mb = time.perf_counter(), resident_mb()
rows = []
import jetlift.runtime
rows.append(((time.perf_counter() - start_s) * 1e3, resident_mb() - start_mb))
for name in jetlift.runtime.__all__:
    getattr(jetlift.runtime, name)
rows.append(((time.perf_counter() - start_s) * 1e3, resident_mb() - start_mb))
print(json.dumps(rows))
"""


def measure() -> list[tuple[float, float]]:
    """One child: milliseconds and megabytes over numpy and cv2 after each step."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )
    return [(row[0], row[1]) for row in json.loads(done.stdout)]


def main() -> int:
    """Measure, print, and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    measure()  # fills the file cache and writes the byte code
    samples = [measure() for _ in range(runs)]
    medians = [
        tuple(statistics.median(sample[number][unit] for sample in samples) for unit in (0, 1))
        for number in range(len(STEPS))
    ]
    for step, (time_ms, memory_mb) in zip(STEPS, medians, strict=True):
        print(f"{step:24} {time_ms:6.1f} ms  {memory_mb:5.1f} MB")
    within = medians[0][0] <= LIMIT_MS and medians[0][1] <= LIMIT_MB
    verdict = "within" if within else "ABOVE"
    print(f"{verdict} the limits of {LIMIT_MS:g} ms and {LIMIT_MB:g} MB ({runs} runs)")
    return 0 if within else 1


if __name__ == "__main__":
    raise SystemExit(main())
