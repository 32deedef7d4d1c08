"""Lines of tegrastats, read from what real boards printed (tegrastats/README.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.jetson import rails, tegrastats
from jetlift.jetson.tegrastats import Core, Line, Unit, parse

LINES = Path(__file__).parent / "tegrastats"


def told(name: str) -> Line:
    return parse((LINES / f"{name}.txt").read_text())


def test_an_orin_nano_without_root_tells_load_and_no_clock() -> None:
    assert told("orin-nano") == Line(
        ram_mb=(1488, 7620),
        swap_mb=(253, 12002),
        cores=(*[Core(0, 1036)] * 2, *[Core(1, 1036)] * 2, *[Core(0, 729)] * 2),
        memory=Unit(),
        gpu=Unit(0),
        temperatures_c={
            "cpu": 47.875, "soc2": 46.75, "soc0": 47.281,
            "gpu": 50.218, "tj": 50.218, "soc1": 48.281,
        },
        gated=(),
        rails_w={"VDD_IN": 4.654, "VDD_CPU_GPU_CV": 0.56, "VDD_SOC": 1.484},
    )  # fmt: skip


def test_cores_that_are_off_are_told_as_off() -> None:
    cores = told("orin-nx").cores
    assert cores[:4] == (Core(6, 729), Core(9, 729), Core(5, 729), Core(16, 729))
    assert cores[4:] == (Core(None, None),) * 4


def test_parts_that_are_switched_off_have_no_temperature() -> None:
    line = told("agx-orin-gated")
    assert line.gated == ("CV0", "CV1", "GPU", "CV2")
    assert line.temperatures_c == {
        "CPU": 44.437, "Tboard": 36.0, "SOC2": 42.562, "Tdiode": 35.75,
        "SOC0": 42.062, "tj": 44.437, "SOC1": 43.031,
    }  # fmt: skip
    assert line.rails_w == {}


def test_clusters_that_are_told_apart_are_one_gpu() -> None:
    line = told("agx-orin-jetpack-5")
    assert line.gpu == Unit(0, (114, 114))
    assert line.memory == Unit(0, (204,))
    assert set(line.rails_w) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}


def test_thor_tells_three_clusters_and_no_load() -> None:
    line = told("thor-developer-kit")
    assert line.gpu == Unit(None, (314, 314, 314))
    assert line.memory == Unit(0, (2750,))
    assert line.swap_mb is None
    assert line.rails_w["VIN"] == 19.78
    assert told("thor-jetpack-7.1").gpu == Unit(None, (0, 0, 0))


def test_thor_under_jetpack_7_2_tells_neither_gpu_nor_memory() -> None:
    line = told("thor-jetpack-7.2")
    assert (line.gpu, line.memory) == (Unit(), Unit())
    assert line.temperatures_c["gpu"] == 62.906
    assert line.rails_w == {
        "VDD_GPU": 37.528, "VDD_CPU_SOC_MSS": 18.961, "VIN_SYS_5V0": 18.331, "VIN": 87.426
    }  # fmt: skip


def test_highest_temperatures_beside_the_present_ones_are_left_out() -> None:
    assert told("agx-orin-jetpack-7").temperatures_c == {
        "cpu": 50.718, "soc2": 47.656, "soc0": 47.156, "tj": 50.718, "soc1": 49.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "total_w", "scope"),
    [
        ("orin-nano", 4.654, "the module's input (VDD_IN)"),
        ("orin-nx", 5.299, "the module's input (VDD_IN)"),
        ("agx-orin-jetpack-5", 9.428, "the module, as VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"),
        ("agx-orin-jetpack-7", 9.63, "the module, as VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"),
        ("thor-jetpack-7.1", 9.25, "the module, as VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0"),
        ("thor-jetpack-7.2", 74.82, "the module, as VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0"),
        ("agx-xavier", 3.346, "the module, as GPU + CPU + SOC + CV + VDDRQ + SYS5V"),
        ("xavier-nx", 4.067, "the module's input (VDD_IN)"),
        ("nano", 1.022, "the module's input (POM_5V_IN)"),
        ("tx2", 3.024, "the module's input (VDD_IN)"),
    ],
)
def test_what_a_boards_rails_add_up_to(name: str, total_w: float, scope: str) -> None:
    line = told(name)
    total = rails.total_of(line.rails_w)
    assert total is not None
    assert total.scope.startswith(scope)
    assert rails.sum_w(total, line.rails_w) == pytest.approx(total_w)


def test_every_line_tells_memory_cores_and_temperatures() -> None:
    paths = sorted(LINES.glob("*.txt"))
    assert len(paths) == 13
    for path in paths:
        line = parse(path.read_text())
        assert line.ram_mb is not None, path
        assert line.cores, path
        assert line.temperatures_c, path


def test_one_clock_for_all_cores_is_the_clock_of_each() -> None:
    line = parse("CPU [0%,5%,off]@2601 EMC_FREQ @4266 GR3D_FREQ 12%@[1300] VDD_IN 3000mW")
    assert line.cores == (Core(0, 2601), Core(5, 2601), Core(None, None))
    assert (line.memory, line.gpu) == (Unit(None, (4266,)), Unit(12, (1300,)))
    assert line.rails_w == {"VDD_IN": 3.0}


@given(st.text(alphabet="RAMCPU GR3D_FREQEMCVDIN0123456789@%/[],-.mWC\n", max_size=200))
def test_any_text_is_read(text: str) -> None:
    line = parse(text)
    assert all(told > tegrastats.GATED_C for told in line.temperatures_c.values())


def test_the_command_is_asked_for_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = (LINES / "orin-nx.txt").read_text().strip()
    command(tmp_path, monkeypatch, f'while :; do echo "{line}"; sleep 1; done')
    found = tegrastats.read_once()
    assert found is not None
    assert found.rails_w["VDD_IN"] == 5.299


@pytest.mark.parametrize("script", ["exit 1", "exec sleep 60", "echo"])
def test_a_command_that_fails_or_keeps_silent_tells_nothing(
    script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tegrastats, "_LIMIT_S", 0.2)
    command(tmp_path, monkeypatch, script)
    assert tegrastats.read_once() is None


def test_without_the_command_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tegrastats.read_once() is None


def command(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "tegrastats"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
