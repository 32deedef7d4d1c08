"""Options: their range, what a library cannot do, and what an engine lacks of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jetlift.engines.trt.options import BuildOptions, as_arguments, check_for, lacking
from jetlift.runtime.errors import UsageError
from jetlift.runtime.passport import BuildSettings

BUILT = BuildSettings({}, 3, None, False, False, False, None, (), (), None, ())  # noqa: FBT003


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"optimization_level": 6}, "optimization level is 6"),
        ({"optimization_level": -1}, "from 0 to 5"),
        ({"profile_buckets": 0}, "profile buckets is 0"),
        ({"dla_core": 2}, "DLA core is 2"),
        ({"workspace_bytes": 0}, "workspace_bytes is 0"),
        ({"time_limit_s": -1.0}, "time_limit_s is -1"),
        ({"time_limit_s": float("nan")}, "time_limit_s is nan"),
    ],
)
def test_what_lies_outside_its_range_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        BuildOptions(**given)


@pytest.mark.parametrize("name", ["version_compatible", "refittable", "stripped"])
def test_what_tensorrt_rtx_cannot_do_is_refused_before_it_starts(name: str) -> None:
    options = BuildOptions(**{name: True})
    with pytest.raises(UsageError, match=name.replace("_", " ")):
        check_for(options, "tensorrt_rtx")
    check_for(options, "tensorrt")


def test_only_what_is_no_default_is_an_argument() -> None:
    assert as_arguments(BuildOptions()) == {}
    options = BuildOptions(
        optimization_level=5, workspace_bytes=2**30, refittable=True, dla_core=0,
        timing_cache=Path("t"), keep_timing_cache=False, time_limit_s=60.0, profile_buckets=2,
    )  # fmt: skip
    assert as_arguments(options) == {
        "optimization-level": 5, "workspace": 1024, "refit": True, "dla-core": 0,
        "profile-buckets": 2, "timing-cache": "t", "no-timing-cache": True, "time-limit-s": 60.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ""),
        ({"version_compatible": True}, "version compatibility"),
        ({"refittable": True, "dla_core": 1}, "refitting and DLA core 1"),
        ({"optimization_level": 5}, "optimisation level 5"),
        ({"workspace_bytes": 2**20}, "that limit of the workspace"),
    ],
)
def test_what_an_engine_lacks_is_named(asked: dict[str, Any], expected: str) -> None:
    assert lacking(BUILT, BuildOptions(**asked)) == expected
    assert lacking(None, BuildOptions(**asked)) == ""


def test_what_memory_kept_it_from_is_not_asked_again() -> None:
    built = replace(BUILT, optimization_level=1, attempts=("as asked: memory ran out",))
    assert lacking(built, BuildOptions(optimization_level=5)) == ""
    assert lacking(built, BuildOptions(refittable=True)) == "refitting"


def test_an_engine_that_has_more_than_is_asked_is_kept() -> None:
    built = replace(BUILT, version_compatible=True, optimization_level=5, dla_core=0)
    assert lacking(built, BuildOptions()) == ""
