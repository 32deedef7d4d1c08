from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.jetson import board
from jetlift.jetson.board import CpuTimes, ProcessProbe

ORIN = {
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit\0",
    "proc/meminfo": "MemTotal:        7802876 kB\nMemFree:  99 kB\nMemAvailable:    6012344 kB\n",
    "proc/loadavg": "0.41 0.30 0.28 2/345 6789\n",
    "proc/stat": "cpu  100 5 60 800 10 1 2 22 0 0\ncpu0 100 5 60 800 10 1 2 22 0 0\nintr 5\n",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1510400\n",
    "sys/devices/system/cpu/cpu0/cache/index0/size": "64K\n",
    "sys/devices/system/cpu/cpu0/cache/index3/size": "4096K\n",
}
STATUS = "Name:\tpython3\nVmPeak:\t  999 kB\nVmHWM:\t  276041 kB\nVmRSS:\t  263000 kB\n"
ROLLUP = "5-7 ---p 00000000 00:00 0    [rollup]\nRss:       263000 kB\nPss:       251111 kB\n"


def _lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_probe_reads_what_linux_says(tmp_path: Path) -> None:
    files = {"proc/7/status": STATUS, "proc/7/smaps_rollup": ROLLUP}
    reading = ProcessProbe(7, root=_lay(tmp_path, files)).read()
    assert reading.rss_bytes.value == 263000 * 1024
    assert reading.pss_bytes.value == 251111 * 1024
    assert reading.rss_peak_bytes.value == 276041 * 1024
    assert reading.power_w.reason == "this probe reads no power sensor"


def test_a_probe_says_what_is_not_told(tmp_path: Path) -> None:
    reading = ProcessProbe(7, root=tmp_path).read()
    assert reading.rss_bytes.value is None
    assert "VmRSS in status" in reading.rss_bytes.reason
    assert "Pss in smaps_rollup" in reading.pss_bytes.reason


def test_a_jetson_s_one_memory_is_read_and_a_pc_has_none(tmp_path: Path) -> None:
    compatible = {"proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0"}
    nvmap = {
        "proc/meminfo": ORIN["proc/meminfo"] + "NvMapMemFree:    1024 kB\nNvMapMemUsed:  2048 kB\n"
    }
    reading = ProcessProbe(7, root=_lay(tmp_path / "orin", ORIN | compatible | nvmap)).read()
    assert reading.available_bytes.value == 6012344 * 1024
    assert reading.nvmap_bytes.value == 2048 * 1024
    older = ProcessProbe(7, root=_lay(tmp_path / "older", ORIN | compatible)).read()
    assert "NvMapMemUsed in meminfo" in older.nvmap_bytes.reason
    pc = ProcessProbe(7, root=_lay(tmp_path / "pc", ORIN)).read()
    assert "on a Jetson alone" in pc.available_bytes.reason
    assert "on a Jetson alone" in pc.nvmap_bytes.reason


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_memory_that_is_used_is_seen_and_its_peak_stays() -> None:
    probe, size = ProcessProbe(), 96 * 2**20
    before = probe.read()
    # A mapping of its own comes from the system and goes back to it; a large process's allocator
    # may have as much lying idle.
    with mmap.mmap(-1, size) as block:
        block.write(b"\1" * size)
        during = probe.read()
    after = probe.read()
    assert (during.rss_bytes.value or 0) - (before.rss_bytes.value or 0) > size * 0.9
    assert (after.rss_bytes.value or 0) < (during.rss_bytes.value or 0)
    assert (after.rss_peak_bytes.value or 0) >= (during.rss_bytes.value or 0) * 0.98
    assert ProcessProbe(os.getpid()).read().pss_bytes.value


def test_a_jetson_describes_itself(tmp_path: Path) -> None:
    machine = board.describe_machine(_lay(tmp_path, ORIN), watch_s=0)
    assert machine.cpu == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit"
    assert machine.memory_bytes.value == 7802876 * 1024
    assert machine.os == "Ubuntu 22.04.5 LTS"
    assert machine.governor == "schedutil"
    assert machine.frequency_mhz.value == 1510.4
    assert machine.load_1min_before.value == 0.41
    assert not machine.virtual
    assert "too little time" in machine.busy_before.reason
    assert board.last_cache_bytes(tmp_path) == 4 * 2**20
    assert board.available_bytes(tmp_path) == 6012344 * 1024


def test_a_virtual_pc_describes_itself(tmp_path: Path) -> None:
    cpuinfo = (
        "model name\t: Some  Xeon(R)   CPU\ncpu MHz\t\t: 2299.998\nflags\t\t: fpu hypervisor\n"
    )
    machine = board.describe_machine(_lay(tmp_path, {"proc/cpuinfo": cpuinfo}), watch_s=0)
    assert machine.cpu == "Some Xeon(R) CPU"
    assert machine.virtual
    assert machine.governor is None
    assert machine.frequency_mhz.value == 2299.998


def test_a_system_that_tells_nothing_is_described_all_the_same(tmp_path: Path) -> None:
    machine = board.describe_machine(tmp_path, watch_s=0)
    assert machine.cpu.startswith("unnamed")
    assert machine.cores >= 1
    for figure in (machine.memory_bytes, machine.frequency_mhz, machine.load_1min_before):
        assert figure.value is None
        assert figure.reason
    assert machine.busy_before.reason == "this system has no /proc/stat"
    assert board.last_cache_bytes(tmp_path) is None
    assert board.available_bytes(tmp_path) is None


def test_nothing_that_names_a_machine_is_read(tmp_path: Path) -> None:
    secret = {"etc/hostname": "box-42\n", "proc/sys/kernel/hostname": "box-42\n"}
    assert "box-42" not in repr(board.describe_machine(_lay(tmp_path, ORIN | secret), watch_s=0))


def test_core_times_count_stolen_time_and_leave_idling_out(tmp_path: Path) -> None:
    times = board.cpu_times(_lay(tmp_path, ORIN))
    per_s = os.sysconf("SC_CLK_TCK")
    assert times == CpuTimes(busy_s=190 / per_s, total_s=1000 / per_s)


@given(
    busy=st.floats(0, 100),
    idle=st.floats(0.01, 100),
    own=st.floats(0, 200),
    start=st.floats(0, 1e6),
)
def test_others_take_between_nothing_and_everything(
    busy: float, idle: float, own: float, start: float
) -> None:
    before = CpuTimes(start, start)
    figure = board.others_share(before, CpuTimes(start + busy, start + busy + idle), own)
    assert figure.value is not None
    assert 0 <= figure.value <= 1
    if own >= busy + 1e-3:
        assert figure.value == 0


def test_what_this_process_used_is_not_the_others() -> None:
    before, after = CpuTimes(10, 100), CpuTimes(16, 110)
    assert board.others_share(before, after, own_s=5).value == pytest.approx(0.1)
    assert board.others_share(before, after, own_s=0).value == pytest.approx(0.6)
    assert "too little time" in board.others_share(before, before, 0).reason


def test_own_time_only_grows() -> None:
    first = board.own_cpu_s()
    np.ones((600, 600)) @ np.ones((600, 600))
    assert board.own_cpu_s() >= first
