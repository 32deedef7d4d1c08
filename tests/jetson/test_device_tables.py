"""devices.toml holds what the tables it is made from hold, field by field."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from jetlift.jetson.facts import Device, PowerMode, devices

TABLES = Path(__file__).resolve().parents[2] / ".." / "shared" / "jetson"
pytestmark = pytest.mark.skipif(
    not (TABLES / "devices.csv").is_file(),
    reason="the tables of shared/jetson are not beside this checkout",
)
# Field of a device to the column of the table.
NUMBERS = {
    "sm_count": "sm_count", "cuda_cores": "cuda_cores", "tensor_cores": "tensor_cores",
    "gpu_max_mhz": "gpu_max_mhz", "l2_kb": "l2_cache_kb", "memory_gb": "memory_gb",
    "memory_bus_bits": "memory_bus_bits", "memory_bandwidth_gbps": "memory_bandwidth_gbps",
    "dla_count": "dla_count", "dla_mhz": "dla_mhz", "dla_int8_tops": "dla_int8_tops_dense",
}  # fmt: skip
PEAKS = {
    "fp32_tflops": "fp32_tflops", "tf32_tflops": "tf32_tflops_dense", "fp16_tflops": "fp16_tflops",
    "int8_tops": "int8_tops_dense", "fp8_tflops": "fp8_tflops_dense",
    "fp4_tflops": "fp4_tflops_dense",
}  # fmt: skip
MODE = {
    "id": "mode_id", "gpu_max_mhz": "gpu_max_mhz", "sm_active": "sm_active",
    "memory_mhz": "emc_mhz",
    "memory_bandwidth_gbps": "memory_bandwidth_gbps_derived", "dla_mhz": "dla_core_mhz",
    "cpu_cores": "cpu_cores_online", "cpu_max_mhz": "cpu_max_mhz",
}  # fmt: skip


def rows(name: str) -> list[dict[str, str]]:
    with (TABLES / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float | None:
    """The number a cell begins with: `20 (2 x 10)` is 20, an empty cell None."""
    found = re.match(r"[\d.]+", text.strip())
    return float(found[0]) if found else None


def by_product() -> dict[str, Device]:
    return {item.product: item for item in devices().values()}


def test_every_jetson_of_the_table_is_there_and_no_other_board() -> None:
    listed = {row["name"] for row in rows("devices.csv") if row["name"].startswith("Jetson")}
    assert set(by_product()) == listed


def test_every_figure_is_the_table_s() -> None:
    for row in rows("devices.csv"):
        item = by_product().get(row["name"])
        if item is None:
            continue
        assert (item.family, item.compute_capability, item.architecture) == (
            row["family"], row["sm"], row["arch"],
        )  # fmt: skip
        for name, column in NUMBERS.items():
            assert getattr(item, name) == number(row[column]), (item.name, name)
        for name, column in PEAKS.items():
            assert getattr(item.dense, name) == number(row[column]), (item.name, name)
        assert item.sparsity_2_4 == (row["sparsity_2_4"] == "1")
        assert item.derived == tuple(row["derived_fields"].split())
        _check_marketing(item, row)


def _check_marketing(item: Device, row: dict[str, str]) -> None:
    said = item.marketing
    printed = number(row["int8_tops_sparse_marketing"])
    dense = "dense" in row["int8_tops_sparse_marketing"]
    assert (said.dense_int8_tops if dense else said.sparse_int8_tops) == printed
    assert said.sparse_fp4_tflops == number(row["fp4_tflops_sparse_marketing"])
    assert said.sparse_dla_int8_tops == number(row["dla_int8_tops_sparse_marketing"])


def test_every_power_mode_is_the_table_s() -> None:
    listed: dict[str, list[dict[str, str]]] = {}
    for row in rows("power_modes.csv"):
        listed.setdefault(row["device"], []).append(row)
    for item in devices().values():
        wanted = listed.pop(item.product, [])
        assert [mode.name for mode in item.power_modes] == [row["mode"] for row in wanted]
        for mode, row in zip(item.power_modes, wanted, strict=True):
            _check_mode(item, mode, row)
    assert listed == {}


def _check_mode(item: Device, mode: PowerMode, row: dict[str, str]) -> None:
    for name, column in MODE.items():
        assert getattr(mode, name) == number(row[column]), (item.name, mode.name, name)
    assert mode.default == (row["is_default"] == "1")
    assert item.sm_count == number(row["sm_total"])
