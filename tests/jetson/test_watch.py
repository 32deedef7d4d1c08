"""The watch of power and state: what it counts, and a thread that fails, is slow or is stopped."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from jetlift.jetson.power import NoMeter, PowerLook
from jetlift.jetson.watch import Watch
from jetlift.runtime.clock import FakeClock

BOARDS = Path(__file__).parents[1] / "runtime" / "boards"
LIMIT_S = 20.0


class Steps:
    """A clock whose every wait lasts until the test lets it go on."""

    def __init__(self) -> None:
        self._now_s, self._gate, self._waiting = (
            100.0,
            threading.Semaphore(0),
            threading.Semaphore(0),
        )

    def now_s(self) -> float:
        return self._now_s

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self._waiting.release()
        while not stop.is_set():
            if self._gate.acquire(timeout=0.01):
                self._now_s += seconds
                break
        return stop.is_set()

    def until_it_waits(self) -> None:
        assert self._waiting.acquire(timeout=LIMIT_S)

    def go_on(self) -> None:
        self._gate.release()
        self.until_it_waits()


class Told:
    """A meter that tells what it is given, then the last for ever."""

    source, scope = "a meter", "a board"

    def __init__(self, *watts: float | None) -> None:
        self._watts = list(watts)

    def look(self, now_s: float) -> PowerLook:  # noqa: ARG002
        told = self._watts.pop(0) if len(self._watts) > 1 else self._watts[0]
        return PowerLook({"VDD_IN": told}, told)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BOARDS / "orin-nano-super", tmp_path / "board"))


def put(root: Path, name: str, text: str | int) -> None:
    (root / name).write_text(f"{text}\n")


def test_power_and_state_of_a_board(board: Path) -> None:
    pace = Steps()
    watch = Watch(board, pace=pace, on_gpu=True)
    with watch:
        pace.until_it_waits()
        put(board, "sys/class/hwmon/hwmon1/curr1_input", 3000)
        put(board, "sys/class/devfreq/17000000.gpu/cur_freq", 1020000000)
        put(board, "sys/class/thermal/thermal_zone3/temp", 70000)
        pace.go_on()
    power, conditions = watch.power(items_per_s=50.0), watch.conditions()
    assert power is not None
    assert (power.source, power.scope) == ("INA3221 in hwmon", "the module's input (VDD_IN)")
    assert power.looks == 3
    assert power.mean_w.value == 14.952
    assert power.energy_j_per_item.value == 0.29904
    assert [rail.name for rail in power.rails] == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]
    assert conditions is not None
    assert (conditions.power_mode, conditions.clocks_fixed) == ("MAXN_SUPER", False)
    assert [(item.name, item.min_mhz.value, item.max_mhz.value, item.limit_mhz.value)
            for item in conditions.clocks] == [
        ("gpu", 1020, 1020, 1020), ("memory", 2133, 2133, 3199), ("cpu", 1728, 1728, 1728)
    ]  # fmt: skip
    warmest = {item.name: item for item in conditions.temperatures}
    assert (warmest["tj-thermal"].start_c.value, warmest["tj-thermal"].max_c.value) == (63.781, 70)
    assert warmest["cv0-thermal"].max_c.reason == "its part was switched off at every look"
    assert conditions.fan_percent.value == 34.5
    assert (conditions.throttled, conditions.unsteady) == ((), ())


def test_clocks_that_moved_and_throttling_make_it_unsteady(board: Path) -> None:
    pace = Steps()
    watch = Watch(board, pace=pace, on_gpu=True)
    with watch:
        pace.until_it_waits()
        pace.go_on()
        put(board, "sys/class/devfreq/17000000.gpu/cur_freq", 1020000000)
        put(board, "sys/class/thermal/cooling_device2/cur_state", 1)
        put(board, "sys/class/hwmon/hwmon3/oc3_event_cnt", 14)
        pace.go_on()
    conditions = watch.conditions()
    assert conditions is not None
    assert conditions.throttled == (
        "gpu-throttle-alert held it back",
        "over-current oc3 was counted 12 times",
    )
    assert conditions.unsteady == (
        *conditions.throttled,
        "the gpu clock moved between 306 and 1020 MHz",
    )


def test_a_gpu_that_is_not_measured_may_move(board: Path) -> None:
    pace = Steps()
    watch = Watch(board, pace=pace)
    with watch:
        pace.until_it_waits()
        pace.go_on()
        put(board, "sys/class/devfreq/17000000.gpu/cur_freq", 1020000000)
        pace.go_on()
    conditions = watch.conditions()
    assert conditions is not None
    assert conditions.unsteady == ()


def test_idle_power_is_looked_at_before_the_start(board: Path) -> None:
    pace = FakeClock()
    watch = Watch(board, pace=pace, meter=Told(9.0, 2.0, 2.0, 5.0))
    watch.look_idle(0.4)
    assert pace.waited_s == [0.2, 0.2]
    with watch:
        pass
    power = watch.power()
    assert power is not None
    assert power.idle_w.value == 2
    assert power.mean_w.value == 5
    assert power.energy_j_per_item.value is None


def test_a_machine_that_tells_nothing_has_no_thread_and_no_figures(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.look_idle()
    before = threading.active_count()
    with watch:
        assert threading.active_count() == before
    assert (watch.power(10.0), watch.conditions()) == (None, None)
    assert watch.power_w().reason.startswith("this machine has no power sensor")


def test_a_pc_without_power_still_tells_its_clocks(tmp_path: Path) -> None:
    policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    (policy / "scaling_cur_freq").write_text("3400000\n")
    watch = Watch(tmp_path)
    with watch:
        pass
    conditions = watch.conditions()
    assert watch.power() is None
    assert conditions is not None
    assert [item.name for item in conditions.clocks] == ["cpu"]
    assert conditions.power_mode is None


def test_it_is_stopped_early_and_has_still_looked(board: Path) -> None:
    watch = Watch(board, period_s=3600.0)
    with watch:
        pass
    power = watch.power()
    assert power is not None
    assert power.looks >= 1
    assert power.mean_w.value == 9.2503


def test_a_second_close_does_nothing(board: Path) -> None:
    watch = Watch(board)
    with watch:
        pass
    first = watch.power()
    watch.close()
    assert watch.power() == first


def test_a_thread_that_fails_leaves_figures_missing(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Told):
        def look(self, now_s: float) -> PowerLook:  # noqa: ARG002
            raise OSError("the bus is gone")

    heard: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    watch = Watch(board, meter=Broken(1.0))
    with watch:
        pass
    power = watch.power(10.0)
    assert [type(item.exc_value) for item in heard] == [OSError]
    assert power is not None
    assert (
        power.mean_w.reason == power.energy_j_per_item.reason == "the watch of the sensors failed"
    )
    assert watch.power_w().reason == "the watch of the sensors failed"
    assert watch.conditions() is None


def test_a_look_that_does_not_come_back_is_not_waited_for(board: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    class Slow(Told):
        def look(self, now_s: float) -> PowerLook:
            entered.set()
            assert release.wait(LIMIT_S)
            return super().look(now_s)

    watch = Watch(board, meter=Slow(1.0), join_limit_s=0.05)
    with watch:
        assert entered.wait(LIMIT_S)
    assert watch.power_w().reason == "the watch of the sensors failed"
    release.set()


def test_a_failure_of_what_is_watched_passes_and_ends_the_thread(board: Path) -> None:
    def fail() -> None:
        raise RuntimeError("the engine")

    with pytest.raises(RuntimeError, match="the engine"), Watch(board, period_s=3600.0):
        fail()
    assert "watch" not in [thread.name for thread in threading.enumerate()]


def test_no_meter_is_told_as_such(tmp_path: Path) -> None:
    watch = Watch(tmp_path, meter=NoMeter("nobody may read it"))
    watch.look_idle()
    assert watch.power_w().reason == "nobody may read it"
