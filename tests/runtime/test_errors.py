from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from jetlift.runtime import errors
from jetlift.runtime.errors import (
    InputError,
    JetliftError,
    MissingPackageError,
    StageError,
)


def _tree(kind: type[JetliftError]) -> list[type[JetliftError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in _tree(child))]


def _make(kind: type[JetliftError]) -> JetliftError:
    if kind is MissingPackageError:
        return MissingPackageError("openvino", extra="cpu", purpose="to run engines on the CPU")
    if kind is StageError:
        return StageError("infer", InputError("Got this", expected="Expected that", do="Do so"))
    return kind("Got this", expected="Expected that", do="Do so")


EXIT_CODES = {
    "JetliftError": 1,
    "StageError": 1,  # unless what it failed of has another
    "GateError": 1,
    "FidelityError": 1,
    "UsageError": 2,
    "UnknownNameError": 2,
    "InputError": 2,
    "BusyError": 2,
    "ArtefactError": 3,
    "BundleError": 3,
    "PassportError": 3,
    "MachineError": 4,
    "MissingPackageError": 4,
    "StorageError": 4,
    "EngineLibraryError": 4,
}


def test_every_error_has_its_documented_exit_code() -> None:
    assert {kind.__name__: kind.exit_code for kind in _tree(JetliftError)} == EXIT_CODES


def test_the_docstring_names_every_error_with_its_exit_code() -> None:
    lines = (errors.__doc__ or "").splitlines()
    named = [line.split("─ ")[-1].split()[0] for line in lines if "Error" in line]
    assert sorted(named) == sorted(EXIT_CODES)


@pytest.mark.parametrize("kind", _tree(JetliftError))
@pytest.mark.parametrize("through", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])  # noqa: S301
def test_an_error_crosses_process_borders_whole(kind: type[JetliftError], through: Any) -> None:
    error = _make(kind)
    again = through(error)
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_stage_fails_with_the_code_of_what_it_failed_of() -> None:
    assert StageError("sink", errors.StorageError("The disk is full")).exit_code == 4
    fault = StageError("draw", ZeroDivisionError("by zero"))
    assert (fault.exit_code, fault.stage) == (1, "draw")
    assert "draw failed with ZeroDivisionError: by zero" in str(fault)


def test_a_message_is_one_paragraph_of_sentences() -> None:
    error = JetliftError("Got 3 ", expected="Expected 4!", do="Try 4")
    assert str(error) == "Got 3. Expected 4! Try 4."


def test_clauses_that_are_not_given_leave_no_trace() -> None:
    assert str(JetliftError("Got 3", do="Try 4")) == "Got 3. Try 4."
    assert str(JetliftError("Got 3")) == "Got 3."


@pytest.mark.parametrize(
    "command",
    [
        "jetlift export MODEL -o DIR",
        "pip install 'jetlift[cpu]'",
        "sudo apt-get install -y libgl1",
        "pip install numpy==2.4.6",
    ],
)
def test_a_command_at_the_end_can_be_copied_without_a_full_stop(command: str) -> None:
    assert str(JetliftError("Got 3", do=f"Mend it with: {command}")).endswith(f": {command}")
    assert str(JetliftError("Got 3", do=command)).endswith(f". {command}")


def test_a_missing_package_says_which_what_for_and_how_to_get_it() -> None:
    error = MissingPackageError("openvino", extra="cpu", purpose="to run engines on the CPU")
    assert (error.package, error.extra) == ("openvino", "cpu")
    assert str(error) == (
        "The Python package 'openvino' is not installed, and it is needed to run engines on the "
        "CPU. Install it with: pip install 'jetlift[cpu]'"
    )
