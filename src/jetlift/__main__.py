"""The edge of the command line: every failure becomes one paragraph and an exit code."""

from __future__ import annotations

import os
import sys

UNEXPECTED = 70  # EX_SOFTWARE: none of the documented codes, since nobody foresaw it
INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Returns:
        0 done, 1 a gate said no, 2 usage, 3 an artefact is refused, 4 this machine lacks something,
        70 an unforeseen fault, 130 interrupted.
    """
    from jetlift.runtime.errors import JetliftError, MissingPackageError

    try:
        try:
            import click

            from jetlift.cli import app
        except ModuleNotFoundError as error:
            if error.name not in ("typer", "click", "rich"):
                raise
            raise MissingPackageError(
                error.name, extra="cpu", purpose="for the command line"
            ) from error
        try:
            result = app(arguments, prog_name="jetlift", standalone_mode=False)
        except click.exceptions.Abort:
            return _say("Interrupted. Nothing half-written was left behind.", INTERRUPTED)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.exceptions.Exit as error:
            return error.exit_code
        return result if isinstance(result, int) else 0
    except JetliftError as error:
        return _say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _say("Interrupted. Nothing half-written was left behind.", INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe left early, as in `jetlift models | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("JETLIFT_TRACEBACK"):
            raise
        return _say(
            f"Unforeseen {type(error).__name__}: {error}. This is a fault of jetlift: please "
            "report it with what JETLIFT_TRACEBACK=1 prints.",
            UNEXPECTED,
        )


def _say(paragraph: str, code: int) -> int:
    sys.stderr.write(f"jetlift: {paragraph}\n")
    return code


if __name__ == "__main__":
    main()
