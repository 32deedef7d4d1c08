"""A service with no work, for tests that send it real signals: says on stdout what it was told.

Run as a script. With an argument `busy` its main thread computes without ever giving way to a
Python signal handler, as an engine library's call does.
"""

from __future__ import annotations

import hashlib
import sys
import threading

from jetlift.runtime.errors import JetliftError
from jetlift.runtime.logs import JsonLines
from jetlift.runtime.service import Service


def main() -> None:
    done = threading.Event()

    def say(word: str) -> None:
        sys.stdout.write(f"{word}\n")
        sys.stdout.flush()

    def reload() -> None:
        say("reload")
        service.reloaded(None if len(sys.argv) < 3 else JetliftError("it was altered"))

    def stop() -> None:
        say("stop")
        done.set()

    with Service(
        JsonLines(), drain=lambda: say("drain"), stop=stop, alive=lambda: True, reload=reload
    ) as service:
        service.starting("loading")
        service.ready("at work")
        if sys.argv[1:2] == ["busy"]:
            content = bytes(2**24)
            while not done.is_set():
                hashlib.sha256(content).digest()
        done.wait()
    say("left")


if __name__ == "__main__":
    main()
