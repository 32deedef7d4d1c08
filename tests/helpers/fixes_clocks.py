"""A process that holds a board's clocks until it is ended: `python fixes_clocks.py ROOT [UID]`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from jetlift.jetson.fix_clocks import FixedClocks
from jetlift.runtime.errors import JetliftError


def main() -> int:
    """Fix, say so, and wait to be ended; as another user where one is named."""
    if len(sys.argv) > 2:
        os.setgroups([])
        os.setresgid(*[int(sys.argv[2])] * 3)
        os.setresuid(*[int(sys.argv[2])] * 3)
    try:
        with FixedClocks(Path(sys.argv[1])):
            sys.stdout.write("fixed\n")
            sys.stdout.flush()
            time.sleep(600)
    except JetliftError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
