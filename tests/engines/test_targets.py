from __future__ import annotations

import re
from pathlib import Path

import pytest

from jetlift.engines.targets import TARGETS, close_names, target
from jetlift.jetson.facts import devices
from jetlift.runtime.errors import UnknownNameError, UsageError

RTX = ("75", "80", "86", "89", "120", "121")
GPU = ("75", "80", "86", "89", "90", "100", "120")


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_found_by_its_name(name: str) -> None:
    assert target(name).name == name


def test_the_targets_are_these() -> None:
    boards = [item.name for item in TARGETS.values() if item.device]
    assert list(TARGETS) == [
        "cpu", "cpu-onnxruntime", "gpu",
        *(f"gpu-sm{item}" for item in GPU), *(f"rtx-sm{item}" for item in RTX), *boards,
    ]  # fmt: skip
    assert boards[0] == "orin-nano-4gb"
    assert boards[-2:] == ["thor-t5000", "thor-t4000"]
    assert len(boards) == 12


def test_a_capability_is_in_the_name_of_a_gpu() -> None:
    for item in TARGETS.values():
        found = re.fullmatch(r"(?:rtx|gpu)-sm(\d+)(\d)", item.name)
        if item.device is None:
            assert item.compute_capability == (f"{found[1]}.{found[2]}" if found else None)
        else:
            assert item.compute_capability == item.device.compute_capability


def test_boards_are_built_with_tensorrt() -> None:
    assert {item.library for item in TARGETS.values() if item.device} == {"tensorrt"}
    assert {item.library for item in TARGETS.values() if item.name.startswith("rtx")} == {
        "tensorrt_rtx"
    }


def test_a_name_is_a_folder() -> None:
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) for name in TARGETS)
    assert all(Path(name).name == name for name in TARGETS)


@pytest.mark.parametrize("name", [item for item in devices() if item not in TARGETS])
def test_old_boards_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError, match=r"older than 10\.3") as caught:
        target(name)
    assert "JetPack 6.1" in caught.value.expected


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("orin-nano", "orin-nano-4gb"),
        ("Jetson Orin NX", "orin-nx-8gb"),
        ("agx-orin", "agx-orin-32gb"),
        ("thorr", "thor-t5000"),
        ("thor", "thor-t5000"),
        ("orin_nano_8gb", "orin-nano-8gb"),
        ("rtx-sm87", "rtx-sm89"),
        ("CPU", "cpu"),
        ("xavier-nx", "xavier-nx-8gb"),
    ],
)
def test_a_name_that_is_none_gets_the_closest(name: str, first: str) -> None:
    assert close_names(name)[0] == first
    with pytest.raises(UnknownNameError, match="is unknown") as caught:
        target(name)
    assert caught.value.expected.startswith(f"Perhaps {first}")


@pytest.mark.parametrize("name", ["", "monorail"])
def test_other_names_get_the_list(name: str) -> None:
    with pytest.raises(UnknownNameError, match="is unknown") as caught:
        target(name)
    assert "cpu-onnxruntime" in caught.value.expected
