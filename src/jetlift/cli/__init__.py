"""The command line. Each command gathers its arguments, calls one stage, and shows the result.

Results go to stdout, everything else to stderr; `--json` gives the result to programs. Stages are
imported inside their command, so `jetlift --help` starts at once and a device needs none of
export's tools.
"""

from __future__ import annotations

from jetlift.cli import make, build, matrix, targets, run, fit, find, words, measuring, judge  # isort: skip - registers them in order of help
from jetlift.cli.app import app

__all__ = [
    "app", "build", "find", "fit", "judge", "make", "matrix", "measuring", "run", "targets", "words"
]  # fmt: skip
