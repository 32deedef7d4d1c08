from __future__ import annotations

import re
from pathlib import Path

import pytest

from jetlift.engines.targets import TARGETS, target
from jetlift.runtime.errors import UnknownNameError


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_found_by_its_name(name: str) -> None:
    assert target(name).name == name


def test_the_targets_are_these() -> None:
    capabilities = ("75", "80", "86", "89", "120", "121")
    assert list(TARGETS) == ["cpu", "cpu-onnxruntime", *(f"rtx-sm{item}" for item in capabilities)]


def test_a_capability_is_in_the_name() -> None:
    for item in TARGETS.values():
        found = re.fullmatch(r"rtx-sm(\d+)(\d)", item.name)
        assert item.compute_capability == (f"{found[1]}.{found[2]}" if found else None)


def test_a_name_is_a_folder() -> None:
    assert all(Path(name).name == name for name in TARGETS)


@pytest.mark.parametrize("name", ["orin-nano-8gb", "agx-orin-64gb", "thor-t5000", "Jetson-Orin-NX"])
def test_boards_are_said_not_to_be_in_this_version(name: str) -> None:
    with pytest.raises(UnknownNameError, match="boards are not in this version") as caught:
        target(name)
    assert "rtx-sm86" in caught.value.expected


@pytest.mark.parametrize("name", ["", "gpu", "rtx-sm87", "CPU", "monorail"])
def test_other_names_get_the_list(name: str) -> None:
    with pytest.raises(UnknownNameError, match="is unknown") as caught:
        target(name)
    assert "cpu-onnxruntime" in caught.value.expected
