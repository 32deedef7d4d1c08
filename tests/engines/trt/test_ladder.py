"""What is tried where memory runs out: the plan, the climb, and builds that really run out of it.

The stand-in for the builder is a real process under a real limit of its address space, which takes
as much as the workspace it may use. TensorRT-RTX itself takes the same whatever it may use.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from helpers.tiny_bundle import mlp
from helpers.trt_builds import X

from jetlift.engines.receipt import Built
from jetlift.engines.trt import build as trt_build
from jetlift.engines.trt.build import build_engine
from jetlift.engines.trt.diagnosis import Diagnosis
from jetlift.engines.trt.ladder import Step, climb, steps
from jetlift.engines.trt.memory import MIB, Room
from jetlift.engines.trt.options import BuildOptions
from jetlift.runtime.errors import EngineLibraryError

ROOM = Room(4096 * MIB, 0, 0)
MEMORY = Diagnosis(is_memory=True, wants_workspace=False, got="memory ran out", do="add swap")
WORKSPACE = Diagnosis(is_memory=False, wants_workspace=True, got="no kernel fits", do="more")
REFUSED = Diagnosis(is_memory=False, wants_workspace=False, got="no such operator", do="")


def test_steps_add_up_and_keep_what_was_asked_otherwise() -> None:
    asked = BuildOptions(version_compatible=True, dla_core=1)
    planned = steps(asked, ROOM)
    assert planned[0] == Step("as asked", asked)
    assert [
        (step.options.workspace_bytes, step.options.optimization_level, step.fewer_tactics)
        for step in planned
    ] == [(None, 3, False), (1024 * MIB, 3, False), (1024 * MIB, 1, False), (1024 * MIB, 0, True)]
    for step in planned:
        assert (step.options.version_compatible, step.options.dla_core) == (True, 1)


def test_a_workspace_that_was_given_is_halved() -> None:
    planned = steps(BuildOptions(workspace_bytes=512 * MIB), ROOM)
    assert planned[1].options.workspace_bytes == 256 * MIB
    smallest = steps(BuildOptions(workspace_bytes=16 * MIB), ROOM)
    assert [step.options.workspace_bytes for step in smallest] == [16 * MIB] * 3
    assert not any(step.shrinks_workspace for step in smallest)


def test_a_level_that_is_low_already_is_not_tried_again() -> None:
    levels = [s.options.optimization_level for s in steps(BuildOptions(optimization_level=1), ROOM)]
    assert levels == [1, 1, 0]


def climbed(*answers: Diagnosis | str) -> tuple[list[Step], list[str], object]:
    """The steps that were taken, the notices, and what came of it."""
    taken: list[Step] = []
    notes: list[str] = []

    def attempt(step: Step) -> str | Diagnosis:
        taken.append(step)
        return answers[len(taken) - 1]

    return taken, notes, climb(steps(BuildOptions(), ROOM), attempt, notes.append)


def test_what_works_at_once_is_tried_once() -> None:
    taken, notes, found = climbed("made")
    assert (len(taken), notes) == (1, [])
    assert (found.made, found.failures) == ("made", ())  # type: ignore[attr-defined]


def test_memory_is_tried_smaller_until_it_works() -> None:
    taken, notes, found = climbed(MEMORY, MEMORY, "made")
    assert taken[-1].options.optimization_level == 1
    assert notes == [
        "as asked: memory ran out. Trying again with a workspace of 1024 MiB",
        "a workspace of 1024 MiB: memory ran out. Trying again with optimisation level 1 besides",
    ]
    assert found.made == "made"  # type: ignore[attr-defined]
    assert found.failures == (  # type: ignore[attr-defined]
        "as asked: memory ran out",
        "a workspace of 1024 MiB: memory ran out",
    )


def test_a_refusal_is_not_tried_again() -> None:
    taken, notes, found = climbed(REFUSED)
    assert (len(taken), notes) == (1, [])
    assert found.last is REFUSED  # type: ignore[attr-defined]


def test_a_refusal_after_memory_ends_it() -> None:
    taken, _, found = climbed(MEMORY, REFUSED)
    assert len(taken) == 2
    assert found.last is REFUSED  # type: ignore[attr-defined]


def test_a_workspace_made_too_small_is_given_back() -> None:
    taken, _, found = climbed(MEMORY, WORKSPACE, MEMORY, "made")
    assert [step.options.workspace_bytes for step in taken] == [None, 1024 * MIB, None, None]
    assert taken[-1].fewer_tactics
    assert found.made == "made"  # type: ignore[attr-defined]


def test_too_little_workspace_as_asked_is_not_tried_again() -> None:
    assert len(climbed(WORKSPACE)[0]) == 1


def test_when_nothing_helps_every_attempt_is_told() -> None:
    taken, _, found = climbed(MEMORY, MEMORY, MEMORY, MEMORY)
    assert len(taken) == 4
    assert found.made is None  # type: ignore[attr-defined]
    assert len(found.failures) == 4  # type: ignore[attr-defined]


STAND_IN = """
import json, resource, sys
asked = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (asked["address_space_bytes"],) * 2)
held = bytearray(asked["workspace_bytes"] or 4 * 2**30)
open(asked["destination"], "wb").write(b"engine")
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/hungry.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setattr(trt_build, "MODULE", "hungry")
    onnx.save(mlp(), tmp_path / "graph.onnx")
    return tmp_path


def build(folder: Path, options: BuildOptions) -> tuple[Built, list[str]]:
    notes: list[str] = []
    built = build_engine(
        folder / "graph.onnx", folder / "engine", None,
        inputs=[X], compute_capability="8.6", options=options, notify=notes.append,
    )  # fmt: skip
    return built, notes


def test_a_build_that_really_runs_out_of_memory_recovers(stand_in: Path) -> None:
    options = BuildOptions(workspace_bytes=800 * MIB, address_space_bytes=700 * MIB)
    built, notes = build(stand_in, options)
    assert (stand_in / "engine").read_bytes() == b"engine"
    assert built.settings is not None
    assert built.settings.workspace_bytes == 400 * MIB
    (attempt,) = built.settings.attempts
    assert attempt.startswith("as asked: The TensorRT-RTX builder ran out of memory")
    assert "MemoryError" in attempt
    assert notes == [f"{attempt}. Trying again with a workspace of 400 MiB"]


def test_a_build_that_nothing_helps_explains(stand_in: Path) -> None:
    options = BuildOptions(workspace_bytes=1600 * MIB, address_space_bytes=300 * MIB)
    with pytest.raises(EngineLibraryError) as caught:
        build(stand_in, options)
    told = str(caught.value)
    assert told.startswith("The TensorRT-RTX builder ran out of memory on graph.onnx: MemoryError")
    assert "4 settings were tried (as asked: " in told
    assert "add swap" in told
    assert not (stand_in / "engine").exists()


def test_all_attempts_share_the_time(stand_in: Path) -> None:
    slow = (stand_in / "modules/hungry.py").read_text() + "import time; time.sleep(600)"
    (stand_in / "modules/hungry.py").write_text(slow)
    options = replace(
        BuildOptions(workspace_bytes=800 * MIB, address_space_bytes=700 * MIB), time_limit_s=3.0
    )
    with pytest.raises(EngineLibraryError, match=r"its time was up"):
        build(stand_in, options)
    assert not (stand_in / "engine").exists()
