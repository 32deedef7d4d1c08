"""What a build needs and what a machine has, read below a root that stands for the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_bundle import mlp

from jetlift.engines import ops
from jetlift.engines.trt import memory
from jetlift.engines.trt.memory import MIB, Estimate, Room, estimate, preflight, room

GIB = 1024 * MIB
# As an Orin Nano tells it: 7.4 GiB, zram on each core, none of it compressed yet.
MEMINFO = "MemTotal:        7802100 kB\nMemFree:  500000 kB\nMemAvailable:    4194304 kB\n"
SWAPS = (
    "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    "/dev/zram0                              partition\t1048576\t\t0\t\t5\n"
    "/swapfile                               file\t\t2097152\t\t1048576\t\t-2\n"
)


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_swap_counts_whole_and_zram_what_it_saves(tmp_path: Path) -> None:
    machine(tmp_path, {"proc/meminfo": MEMINFO, "proc/swaps": SWAPS})
    found = room(tmp_path)
    assert found == Room(4 * GIB, GIB, GIB // 2)
    assert found.usable_bytes == 5.5 * GIB


@pytest.mark.parametrize(
    ("mm_stat", "gain"),
    [
        (f"{GIB} {GIB // 4} 0 0 0 0 0 0", 0.75),  # it told how well it compresses
        (f"{MIB} {MIB // 8} 0 0", 0.5),  # too little to tell
        (f"{GIB} {GIB * 2} 0 0", 0.0),  # what does not compress gains nothing
        ("nonsense", 0.5),
    ],
)
def test_zram_is_counted_by_what_it_was_seen_to_compress(
    tmp_path: Path, mm_stat: str, gain: float
) -> None:
    files = {"proc/meminfo": MEMINFO, "proc/swaps": SWAPS, "sys/block/zram0/mm_stat": mm_stat}
    found = room(machine(tmp_path, files))
    assert found is not None
    assert found.zram_bytes == gain * GIB


CGROUPS = {
    "version 2": {
        "proc/self/cgroup": "0::/user.slice/app.scope\n",
        "sys/fs/cgroup/user.slice/memory.max": "max\n",
        "sys/fs/cgroup/user.slice/app.scope/memory.max": f"{GIB}\n",
        "sys/fs/cgroup/user.slice/app.scope/memory.current": f"{GIB // 2}\n",
        "sys/fs/cgroup/user.slice/app.scope/memory.stat": f"anon 1\ninactive_file {GIB // 4}\n",
    },
    "version 1": {
        "proc/self/cgroup": "7:memory,cpu:/docker/abc\n1:name=systemd:/x\n0::/\n",
        "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": f"{GIB // 2}\n",
        "sys/fs/cgroup/memory/docker/abc/memory.stat": f"total_inactive_file {GIB // 4}\n",
    },
}


@pytest.mark.parametrize("version", CGROUPS)
def test_a_control_group_that_is_tighter_than_the_machine_counts(
    tmp_path: Path, version: str
) -> None:
    files = {"proc/meminfo": MEMINFO, "proc/swaps": SWAPS} | CGROUPS[version]
    found = room(machine(tmp_path, files))
    assert found is not None
    assert found.usable_bytes == GIB - GIB // 2 + GIB // 4
    assert found.limited_by.rpartition("/")[2] in ("app.scope", "abc")


def test_an_outer_group_counts_where_it_is_tighter(tmp_path: Path) -> None:
    outer = {
        "sys/fs/cgroup/user.slice/memory.max": f"{GIB // 8}\n",
        "sys/fs/cgroup/user.slice/memory.current": "0\n",
    }
    found = room(machine(tmp_path, {"proc/meminfo": MEMINFO} | CGROUPS["version 2"] | outer))
    assert found is not None
    assert (found.available_bytes, found.limited_by) == (GIB // 8, "/user.slice")


def test_a_group_without_a_limit_or_a_wide_one_changes_nothing(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "7:memory:/wide\n",
        "sys/fs/cgroup/memory/wide/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/wide/memory.usage_in_bytes": "1\n",
    }
    found = room(machine(tmp_path, {"proc/meminfo": MEMINFO} | files))
    assert found == Room(4 * GIB, 0, 0)


def test_a_system_that_does_not_tell_is_not_guessed_at(tmp_path: Path) -> None:
    assert room(tmp_path) is None
    assert preflight(Estimate(GIB, 0, ""), None) == ""


def test_this_machine_tells() -> None:
    found = room()
    if not Path("/proc/meminfo").exists():
        pytest.skip("this is no Linux")
    assert found is not None
    assert found.usable_bytes > 0


def test_what_fits_is_not_told() -> None:
    assert preflight(Estimate(GIB, 0, ""), Room(2 * GIB, 0, 0)) == ""
    assert preflight(Estimate(3 * GIB, GIB, ""), Room(2 * GIB, 2 * GIB, 0)) == ""


def test_what_does_not_fit_is_told_with_what_to_do() -> None:
    told = preflight(Estimate(3 * GIB, 0, "3072 MiB, reckoned"), Room(GIB, GIB, 0, "/docker/abc"))
    assert "needs about 3072 MiB (3072 MiB, reckoned), and 2048 MiB can be had" in told
    assert "by control group /docker/abc" in told
    assert "add swap" in told


def test_what_the_gpu_holds_cannot_be_swapped() -> None:
    """4 GiB can be had, of which one is memory; the GPU alone wants two."""
    assert preflight(Estimate(MIB, 2 * GIB, ""), Room(GIB, 3 * GIB, 0)) != ""


# Measured peaks in MiB: file in bytes, nodes, peak (docs/measurements.md).
MEASURED = [
    (86592041, 458, 609.5), (43338054, 461, 485.3), (23241602, 614, 482.2),
    (32858800, 147, 358.4), (10477893, 219, 314.2),
    (90319008, 307, 544.7), (45190063, 308, 429.1), (58670281, 415, 484.7),
    (402653625, 13, 1351.0), (201327066, 14, 776.0), (100787720, 31, 490.2),
]  # fmt: skip


@pytest.mark.parametrize(("file_bytes", "nodes", "peak_mib"), MEASURED)
def test_the_estimate_holds_for_what_was_measured(
    file_bytes: int, nodes: int, peak_mib: float
) -> None:
    whole = memory._BASE_BYTES + memory._PER_FILE_BYTE * file_bytes + memory._PER_NODE_BYTES * nodes
    assert 0.8 <= peak_mib * MIB / whole <= 1.02
    alone = estimate(file_bytes, None, workspace_bytes=None, on_gpu=False)
    assert alone.host_bytes >= 0.97 * peak_mib * MIB  # without its nodes it is reckoned high


def test_the_gpus_share_is_weights_and_workspace() -> None:
    cost = ops.count(mlp(), {"x": (1, 16)})
    here = estimate(MIB, cost, workspace_bytes=64 * MIB, on_gpu=False)
    assert here.device_bytes == 0
    there = estimate(MIB, cost, workspace_bytes=64 * MIB, on_gpu=True)
    assert there.device_bytes == 65 * MIB
    assert there.host_bytes == here.host_bytes > memory._BASE_BYTES
