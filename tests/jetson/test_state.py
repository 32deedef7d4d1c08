"""Clocks, temperatures, throttling and fan, from files of boards and PCs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jetlift.jetson.state import StateReader, cpu_policies

BOARDS = Path(__file__).parents[1] / "runtime" / "boards"
COOLING = "sys/class/thermal/cooling_device"


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BOARDS / "orin-nano-super", tmp_path / "board"))


def put(root: Path, name: str, text: str | int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_an_orin_nano(board: Path) -> None:
    state = StateReader(board)
    look = state.look()
    assert look.clocks_mhz == {"gpu": 306.0, "memory": 2133.0, "cpu": 1728.0}
    assert look.temperatures_c == {
        "cpu-thermal": 63.625, "gpu-thermal": 50.218, "cv0-thermal": None, "tj-thermal": 63.781
    }  # fmt: skip
    assert look.throttling == ()  # the fan turns, and that is none
    assert state.limits_mhz() == {"gpu": 1020.0, "memory": 3199.0, "cpu": 1728.0}
    assert state.clocks_fixed() is False
    assert state.events() == {"over-current oc1": 1, "over-current oc2": 0, "over-current oc3": 2}
    assert state.fan_percent() == 34.5


def test_a_zone_at_minus_256_degrees_is_a_part_that_is_off() -> None:
    look = StateReader(BOARDS / "agx-orin").look()
    assert look.temperatures_c["CV0-therm"] is None
    assert look.temperatures_c["GPU-therm"] == 38.156


def test_the_memory_s_clock_that_root_alone_may_see_is_no_clock() -> None:
    state = StateReader(BOARDS / "agx-orin")
    assert set(state.look().clocks_mhz) == {"gpu", "cpu"}
    assert state.limits_mhz() == {"gpu": 1300.5, "cpu": 2201.6}


def test_thor(tmp_path: Path) -> None:
    root = Path(shutil.copytree(BOARDS / "thor", tmp_path / "board"))
    state = StateReader(root)
    look = state.look()
    assert look.clocks_mhz == {"gpu": 314.5, "cpu": 972.0}
    assert look.temperatures_c["gpu-thermal"] is None  # its driver does not answer
    assert look.temperatures_c["tj-thermal"] == 38.875
    assert state.fan_percent() == 22.7
    assert state.events()["over-current oc3"] == 179
    put(root, f"{COOLING}4/cur_state", 18)
    assert state.look().throttling == ("devfreq-gpu-gpc-0",)


def test_jetpack_4_has_its_fan_elsewhere() -> None:
    assert StateReader(BOARDS / "nano").fan_percent() == 100.0


def test_throttling_is_what_a_cooling_device_says(board: Path) -> None:
    put(board, f"{COOLING}2/cur_state", 1)
    assert StateReader(board).look().throttling == ("gpu-throttle-alert",)


def test_clocks_are_fixed_where_nothing_may_move(board: Path) -> None:
    put(board, "sys/class/devfreq/17000000.gpu/min_freq", 1020000000)
    state = StateReader(board)
    assert state.clocks_fixed() is False
    for policy in (0, 4):
        put(board, f"sys/devices/system/cpu/cpufreq/policy{policy}/scaling_min_freq", 1728000)
    assert state.clocks_fixed() is True


def test_a_gpu_that_is_switched_off_has_no_clock(board: Path) -> None:
    put(board, "sys/class/devfreq/17000000.gpu/cur_freq", 0)
    assert "gpu" not in StateReader(board).look().clocks_mhz


def test_a_pc_counts_the_throttling_of_its_package(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu"
    put(tmp_path, f"{cpu}/cpu0/thermal_throttle/package_throttle_count", 3)
    put(tmp_path, f"{cpu}/cpufreq/policy0/scaling_cur_freq", 3400000)
    put(tmp_path, f"{COOLING}0/type", "Processor")
    put(tmp_path, f"{COOLING}0/cur_state", 0)
    put(tmp_path, f"{COOLING}1/type", "intel_powerclamp")
    put(tmp_path, f"{COOLING}1/cur_state", 1)
    state = StateReader(tmp_path)
    assert state.events() == {"thermal throttling of the package": 3}
    assert state.look().clocks_mhz == {"cpu": 3400.0}
    assert state.look().throttling == ()
    assert state.clocks_fixed() is None


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    state = StateReader(tmp_path)
    assert not state.tells_anything
    assert (state.look().clocks_mhz, state.events(), state.fan_percent()) == ({}, {}, None)


@pytest.mark.parametrize(("cores", "looked_at"), [(0, 0), (16, 16), (17, 9), (64, 16), (65, 13)])
def test_of_many_cores_every_nth_is_looked_at(tmp_path: Path, cores: int, looked_at: int) -> None:
    for core in range(cores):
        (tmp_path / f"sys/devices/system/cpu/cpufreq/policy{core}").mkdir(parents=True)
    assert len(cpu_policies(tmp_path)) == looked_at
