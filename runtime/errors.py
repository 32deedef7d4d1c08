"""Every error jetlift raises on purpose, and the exit code each one becomes.

    JetliftError
    ├── StageError                *  a stage of a pipeline failed; the code of what it failed of
    ├── GateError                 1  a gate said no
    │   └── FidelityError            a variant misses its fidelity budget
    ├── UsageError                2  the command or call was wrong
    │   ├── UnknownNameError         no such model, task, target, precision, part
    │   ├── InputError               a file, folder or device given as input cannot be used
    │   └── BusyError                something else is being changed right now; try again
    ├── ArtefactError             3  something jetlift made is refused
    │   ├── BundleError              a bundle is incomplete, altered, or of another schema
    │   └── PassportError            an engine may not load here
    └── MachineError              4  this machine lacks something
        ├── MissingPackageError      an optional package is not installed
        ├── StorageError             the disk is full or refuses the write
        └── EngineLibraryError       the engine library failed

Each message is one paragraph: what was got, what was expected, what to do.
"""

from __future__ import annotations

import re

_COMMAND_AT_END = re.compile(r"(?:^|: )(?:jetlift|pip|sudo|apt-get|\S*python\S*) [^:]+$")


class JetliftError(Exception):
    """Root of the tree.

    Args:
        got: What was met, as a clause that can stand at the start of a sentence.
        expected: What would have been right. Empty where `got` already says it.
        do: The next step for the reader.
    """

    exit_code: int = 1

    def __init__(self, got: str, *, expected: str = "", do: str = "") -> None:
        self.got, self.expected, self.do = got, expected, do
        super().__init__(" ".join(_sentence(part) for part in (got, expected, do) if part))

    def __reduce__(self) -> tuple[object, ...]:
        # The default calls the class with the finished message, which loses the three clauses and
        # fails for MissingPackageError; errors cross process borders (measuring is in a child).
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[JetliftError], args: tuple[object, ...], state: dict[str, object]
) -> JetliftError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def _sentence(text: str) -> str:
    text = text.strip()
    if text.endswith((".", "!", "?")) or _COMMAND_AT_END.search(text):
        return text  # a full stop after a command would be copied along with it
    return f"{text}."


class StageError(JetliftError):
    """A stage of a pipeline failed.

    Args:
        stage: Its name.
        cause: What it failed of; the exit code is that error's.
    """

    def __init__(self, stage: str, cause: BaseException) -> None:
        self.stage = stage
        if isinstance(cause, JetliftError):
            self.exit_code = cause.exit_code
            super().__init__(f"{stage}: {cause.got}", expected=cause.expected, do=cause.do)
        else:
            super().__init__(
                f"{stage} failed with {type(cause).__name__}: {cause}",
                do="This is a fault of jetlift's or of a library's: please report it",
            )
        self.__cause__ = cause


class GateError(JetliftError):
    """A gate said no."""

    exit_code = 1


class FidelityError(GateError):
    """A variant misses its fidelity budget."""


class UsageError(JetliftError):
    """The command or the call was wrong."""

    exit_code = 2


class UnknownNameError(UsageError):
    """No such model, task, target, precision or part."""


class InputError(UsageError):
    """A file, folder or device given as input cannot be used."""


class BusyError(UsageError):
    """Something else is being changed right now; the same call may succeed in a moment."""


class ArtefactError(JetliftError):
    """Something that jetlift made is refused."""

    exit_code = 3


class BundleError(ArtefactError):
    """A bundle is incomplete, altered, or of another schema."""


class PassportError(ArtefactError):
    """An engine may not load here."""


class MachineError(JetliftError):
    """This machine lacks something."""

    exit_code = 4


class MissingPackageError(MachineError):
    """An optional package is not installed.

    Args:
        package: The import name that failed.
        extra: The jetlift extra that brings it.
        purpose: What it is needed for, as in 'to run engines on the CPU'.
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(
            f"The Python package '{package}' is not installed, and it is needed {purpose}",
            do=f"Install it with: pip install 'jetlift[{extra}]'",
        )


class StorageError(MachineError):
    """The disk is full or refuses the write."""


class EngineLibraryError(MachineError):
    """The engine library failed."""
