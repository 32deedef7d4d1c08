"""The edge of the command line: every failure becomes one paragraph and an exit code."""

from __future__ import annotations

import os
import sys

UNEXPECTED = 70  # EX_SOFTWARE: none of the documented codes, since nobody foresaw it
INTERRUPTED = 130
_INTERRUPTED = "Interrupted. Nothing that was not finished has the name of something finished."


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def build_engines() -> None:
    """Run `jetlift build-engines` under its short name."""
    sys.exit(run(["build-engines", *sys.argv[1:]]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Returns:
        0 done, 1 a gate said no, 2 usage, 3 an artefact is refused, 4 this machine lacks something,
        70 an unforeseen fault, 130 interrupted.
    """
    from jetlift.runtime.errors import JetliftError, MissingPackageError

    try:
        try:
            from jetlift.cli import app
        except ModuleNotFoundError as error:
            if error.name not in ("typer", "rich"):
                raise
            raise MissingPackageError(
                error.name, extra="cpu", purpose="for the command line"
            ) from error
        app(arguments, prog_name="jetlift")
    except SystemExit as left:  # Typer has said what there was to say, but of an interrupt
        code = left.code if isinstance(left.code, int) else 0
        return _say(_INTERRUPTED, code) if code == INTERRUPTED else code
    except JetliftError as error:
        return _say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _say(_INTERRUPTED, INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe left early, as in `jetlift models | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, ImportError):
            from jetlift.doctor.core import cv2_error

            if refusal := cv2_error(error):
                return _say(str(refusal), refusal.exit_code)
        if os.environ.get("JETLIFT_TRACEBACK"):
            raise
        return _say(
            f"Unforeseen {type(error).__name__}: {error}. This is a fault of jetlift: please "
            "report it with what JETLIFT_TRACEBACK=1 prints.",
            UNEXPECTED,
        )
    return 0


def _say(paragraph: str, code: int) -> int:
    sys.stderr.write(f"jetlift: {paragraph}\n")
    return code


if __name__ == "__main__":
    main()
