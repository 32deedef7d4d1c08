"""Power from the sensors of boards and the counters of PCs, as files of a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.jetson import power, rapl
from jetlift.jetson.board import ProcessProbe
from jetlift.jetson.power import LineMeter, NoMeter, PowerTally, RailMeter, RaplMeter, find_meter
from jetlift.jetson.rails import find_channels
from jetlift.jetson.rapl import Zone
from jetlift.jetson.tegrastats import parse

BOARDS = Path(__file__).parents[1] / "runtime" / "boards"


THOR_SCOPE = (
    "the module, as VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0; the carrier board is not in it"
)


def lay(root: Path, files: dict[str, str | int]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def pc(root: Path, **counters: int) -> Path:
    """A PC with counters, by `package_0`, `package_0_core`, `psys`."""
    zones: dict[str, str | int] = {}
    folders = {
        "package_0": "intel-rapl:0",
        "package_0_core": "intel-rapl:0:0",
        "psys": "intel-rapl:1",
    }
    for name, energy_uj in counters.items():
        folder = f"sys/class/powercap/{folders[name]}"
        told = "core" if name.endswith("core") else name.replace("_", "-")
        zones |= {
            f"{folder}/name": told,
            f"{folder}/energy_uj": energy_uj,
            f"{folder}/max_energy_range_uj": 262143328850,
        }
    return lay(root, zones)


@pytest.mark.parametrize(
    ("board", "source", "scope", "rails_w"),
    [
        (
            "orin-nano-super",
            "INA3221 in hwmon",
            "the module's input (VDD_IN)",
            {"VDD_IN": 9.250304, "VDD_CPU_GPU_CV": 0.558208, "VDD_SOC": 1.485232},
        ),
        (
            "agx-orin",
            "INA3221 in hwmon",
            "the module, as VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0; the carrier board is not in it",
            {
                "VDD_GPU_SOC": 4.78848,
                "VDD_CPU_CV": 0.79808,
                "VIN_SYS_5V0": 3.84384,
                "VDDQ_VDD2_1V8AO": 0.708864,
            },
        ),
        (
            "thor",
            "INA3221 in hwmon, INA238 in hwmon",
            THOR_SCOPE,
            {"VDD_GPU": 1.9701, "VDD_CPU_SOC_MSS": 5.8904, "VIN_SYS_5V0": 5.634, "VIN": 19.78},
        ),
        (
            "nano",
            "INA3221 of JetPack 4",
            "the module's input (POM_5V_IN)",
            {"POM_5V_IN": 1.022, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.204},
        ),
    ],
)
def test_rails_of_boards(board: str, source: str, scope: str, rails_w: dict[str, float]) -> None:
    meter = find_meter(BOARDS / board)
    assert isinstance(meter, RailMeter)
    assert (meter.source, meter.scope) == (source, scope)
    look = meter.look(0.0)
    assert look.rails_w == pytest.approx(rails_w)
    assert list(look.rails_w) == list(rails_w)


def test_the_total_of_thor_is_the_module_and_not_the_developer_kit() -> None:
    meter = find_meter(BOARDS / "thor")
    assert isinstance(meter, RailMeter)
    assert meter.look(0.0).total_w == pytest.approx(1.9701 + 5.8904 + 5.634)


def test_a_rail_that_does_not_answer_leaves_no_total(tmp_path: Path) -> None:
    board = shutil.copytree(BOARDS / "agx-orin", tmp_path / "board")
    meter = find_meter(board)
    (board / "sys/class/hwmon/hwmon1/curr2_input").unlink()
    assert isinstance(meter, RailMeter)
    look = meter.look(0.0)
    assert look.rails_w["VDD_CPU_CV"] is None
    assert look.rails_w["VDD_GPU_SOC"] == pytest.approx(4.78848)
    assert look.total_w is None


def test_rails_that_are_not_known_stand_alone(tmp_path: Path) -> None:
    chip = "sys/class/hwmon/hwmon0"
    root = lay(
        tmp_path,
        {f"{chip}/name": "ina3221", f"{chip}/in1_label": "VDD_CAMERA", f"{chip}/in1_input": 5000}
        | {f"{chip}/curr1_input": 200},
    )
    meter = find_meter(root)
    assert isinstance(meter, RailMeter)
    tally = PowerTally(meter.scope)
    tally.add(meter.look(0.0), 0.0)
    assert tally.total.mean_w(tally.why_not).reason == (
        "the rails of this board add up to no total that is known"
    )
    assert tally.rails["VDD_CAMERA"].mean_w().value == 1


def test_hwmon_numbers_are_taken_in_order_of_numbers(tmp_path: Path) -> None:
    files: dict[str, str | int] = {}
    for number in (2, 10):
        chip = f"sys/class/hwmon/hwmon{number}"
        files |= {f"{chip}/name": "ina3221", f"{chip}/in1_label": f"RAIL{number}"}
        files |= {f"{chip}/in1_input": 1, f"{chip}/curr1_input": 1}
    assert [item.name for item in find_channels(lay(tmp_path, files))] == ["RAIL2", "RAIL10"]


def test_a_board_without_sensors_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    meter = find_meter(lay(tmp_path, {"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3"}))
    assert isinstance(meter, NoMeter)
    assert meter.reason.startswith("this board shows no power sensor (INA3221")


def test_tegrastats_tells_where_sensors_cannot_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (Path(__file__).parent / "tegrastats/agx-orin-jetpack-6.txt").read_text().strip()
    command = tmp_path / "tegrastats"
    command.write_text(f"#!/bin/sh\necho '{line}'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    meter = find_meter(lay(tmp_path, {"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3"}))
    assert isinstance(meter, LineMeter)
    assert meter.source == "tegrastats"
    assert meter.look(0.0).total_w == pytest.approx(8.726)


def test_tegrastats_that_falls_silent_leaves_looks_without_an_answer() -> None:
    meter = LineMeter(parse("RAM 1/2MB VDD_IN 3000mW/3000mW"), read=lambda: None)
    assert meter.look(0.0) == power.PowerLook({"VDD_IN": None}, None)


def test_a_pc_without_counters_is_not_measured_and_never_zero(tmp_path: Path) -> None:
    meter = find_meter(tmp_path)
    assert meter == NoMeter(
        "this machine has no power sensor that is known (hwmon's INA3221, powercap)"
    )


def test_the_counter_of_a_pc_begins_with_the_second_look(tmp_path: Path) -> None:
    root = pc(tmp_path, package_0=1_000_000, package_0_core=500_000)
    meter = find_meter(root)
    assert isinstance(meter, RaplMeter)
    assert meter.scope == "the processor (package-0); memory and board are not in it"
    assert meter.look(10.0) == power.PowerLook({"package-0": None, "package-0 core": None}, None)
    pc(root, package_0=31_000_000, package_0_core=10_500_000)
    assert meter.look(12.0) == power.PowerLook({"package-0": 15.0, "package-0 core": 5.0}, 15.0)


def test_the_counter_starts_again_at_its_end(tmp_path: Path) -> None:
    root = pc(tmp_path, package_0=262143328850 - 1_000_000)
    meter = find_meter(root)
    meter_look = meter.look(0.0) if isinstance(meter, RaplMeter) else None
    assert meter_look is not None
    pc(root, package_0=4_000_000)
    assert isinstance(meter, RaplMeter)
    assert meter.look(1.0).total_w == pytest.approx(5.0)


def test_the_platform_s_counter_comes_before_the_packages(tmp_path: Path) -> None:
    root = pc(tmp_path, package_0=0, psys=0)
    meter = find_meter(root)
    assert isinstance(meter, RaplMeter)
    meter.look(0.0)
    pc(root, package_0=10_000_000, psys=25_000_000)
    assert meter.look(1.0).total_w == 25.0
    assert "psys" in str(meter.scope)


def test_a_counter_that_only_root_may_read_says_what_opens_it(tmp_path: Path) -> None:
    root = pc(tmp_path, package_0=1)
    counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.unlink()
    counter.mkdir()  # read by nobody, root neither, as the tests may run as root
    meter = find_meter(root)
    assert isinstance(meter, NoMeter)
    assert f"{counter} is not ours to read" in meter.reason
    assert "sudo chmod a+r" in meter.reason


@given(st.integers(0, 10**12), st.integers(1, 10**9))
def test_energy_is_what_was_counted_across_the_end(start_uj: int, used_uj: int) -> None:
    wraps_at_uj = 10**12
    before = start_uj
    now = (
        (start_uj + used_uj) % wraps_at_uj if start_uj + used_uj > wraps_at_uj else before + used_uj
    )
    zone = Zone("package-0", Path("x"), wraps_at_uj)
    assert zone.joules_since(before, now) == pytest.approx(used_uj / 1e6)


def test_a_counter_that_went_back_without_a_known_end_is_no_energy() -> None:
    assert Zone("package-0", Path("x"), None).joules_since(5, 4) is None


def test_no_package_is_no_scope() -> None:
    assert rapl.scope_of([Zone("package-0 core", Path("x"), None)]) is None


def test_a_mean_is_weighted_by_time() -> None:
    tally = PowerTally("the module")
    for now_s, watts in ((0.0, 100.0), (1.0, 2.0), (4.0, 6.0)):
        tally.add(power.PowerLook({"VDD_IN": watts}, watts), now_s)
    # 2 W since the first look, 6 W for three seconds; the first look holds for no time.
    assert tally.total.mean_w().value == 5
    assert tally.total.max_w().value == 100
    assert tally.looks == 3


def test_one_look_is_its_own_mean() -> None:
    tally = PowerTally("the module")
    tally.add(power.PowerLook({"VDD_IN": 4.5}, 4.5), 0.0)
    assert tally.total.mean_w().value == 4.5


def test_a_probe_tells_the_power_of_now(tmp_path: Path) -> None:
    board = Path(shutil.copytree(BOARDS / "orin-nano-super", tmp_path / "board"))
    probe = power.PoweredProbe(ProcessProbe(), board)
    assert probe.read().power_w.value == 9.25
    assert probe.read().rss_bytes.value is not None
    (board / "sys/class/hwmon/hwmon1/curr1_input").unlink()
    assert probe.read().power_w.reason == "the sensors told no total at this look"


def test_a_probe_without_a_sensor_says_why(tmp_path: Path) -> None:
    reading = power.PoweredProbe(ProcessProbe(), tmp_path).read()
    assert reading.power_w.reason.startswith("this machine has no power sensor")
