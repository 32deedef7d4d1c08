"""Options of `jetlift bench` for cold starts, sweeps and scenarios."""

from __future__ import annotations

import pytest

from jetlift.cli.more_options import more_of
from jetlift.runtime.errors import UnknownNameError, UsageError


def test_lists_are_read_and_said_again_in_the_command() -> None:
    more = more_of("1, 2,2", "4", "Offline", 3.0, None, None, 5)
    assert (more.batches, more.callers, more.scenarios) == ((1, 2), (4,), ("Offline",))
    assert " ".join(more.words()) == (
        "--batch 1,2 --callers 4 --scenario Offline --scenario-seconds 3 --cold-starts 5"
    )
    assert more_of(None, None, None, 10.0, None, None, 0).steps() == 0


@pytest.mark.parametrize("text", ["0", "-1", "a", "1.5", "", ",", "1,x", "²"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--batch got"):
        more_of(text, None, None, 10.0, None, None, 0)


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="singlestream"):
        more_of(None, None, "singlestream", 10.0, None, None, 0)
