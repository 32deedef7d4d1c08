"""Reads one file after another as jetlift does, and says what came of each.

Run by fuzz_bench in a process of its own: a line `KIND PATH` on stdin is answered by a line
`OUTCOME DETAIL`, where the outcome is `read`, `refused` (a JetliftError, or the picture reader's
own) or `other` (any other exception).
"""

from __future__ import annotations

import resource
import sys
from itertools import islice
from pathlib import Path

from jetlift.runtime.audio import read_sound
from jetlift.runtime.errors import JetliftError
from jetlift.runtime.pictures import UnreadablePictureError, read_picture
from jetlift.runtime.sources import open_frame_sources

_MOST_FRAMES = 60


def read(kind: str, path: Path) -> str:
    """Read a file; what was in it."""
    if kind == "picture":
        return str(read_picture(path).shape)
    if kind == "sound":
        return f"{len(read_sound(path).samples)} samples"
    (source,) = open_frame_sources([str(path)])
    return f"{sum(1 for _ in islice(source.frames(), _MOST_FRAMES))} frames"


def answer(kind: str, path: Path) -> str:
    """The line for one file."""
    try:
        return f"read {read(kind, path)}"
    except (JetliftError, UnreadablePictureError) as error:
        return f"refused {error}"
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return f"other {type(error).__name__}: {error}"


def main(arguments: list[str]) -> int:
    """Answer until stdin ends; the argument is how many bytes of memory may be used."""
    most_bytes = int(arguments[0])
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        kind, _, path = line.rstrip("\n").partition(" ")
        sys.stdout.write(answer(kind, Path(path)).replace("\n", " ") + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
