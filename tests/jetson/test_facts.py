from __future__ import annotations

import pytest

from jetlift.jetson import facts
from jetlift.jetson.facts import (
    default_release,
    device,
    device_of,
    devices,
    numbers,
    refusal,
    release,
    release_of_l4t,
    releases,
    releases_for,
)
from jetlift.runtime.errors import UnknownNameError, UsageError

ORIN_AND_THOR = [
    "orin-nano-4gb", "orin-nano-4gb-super", "orin-nano-8gb", "orin-nano-8gb-super",
    "orin-nx-8gb", "orin-nx-8gb-super", "orin-nx-16gb", "orin-nx-16gb-super",
    "agx-orin-32gb", "agx-orin-64gb", "thor-t5000", "thor-t4000",
]  # fmt: skip
OLD = [
    "nano-4gb", "nano-2gb", "tx1", "tx2", "tx2-nx",
    "xavier-nx-8gb", "xavier-nx-16gb", "agx-xavier-32gb", "agx-xavier-64gb",
]  # fmt: skip


def test_every_jetson_is_there_the_current_ones_first() -> None:
    assert list(devices()) == [*ORIN_AND_THOR, *OLD]


@pytest.mark.parametrize("name", devices())
def test_a_device_agrees_with_itself(name: str) -> None:
    item = device(name)
    assert item.name == name
    assert item.source
    assert len({mode.name for mode in item.power_modes}) == len(item.power_modes)
    assert len({mode.id for mode in item.power_modes}) == len(item.power_modes)
    assert sum(mode.default for mode in item.power_modes) == (1 if item.power_modes else 0)
    for mode in item.power_modes:
        assert 0 < mode.sm_active <= item.sm_count
        # Some data sheets round the clock that the power table has: 624.75 to 625, 1300.5 to 1300.
        assert mode.gpu_max_mhz <= item.gpu_max_mhz + 1
        assert mode.source
    assert (item.dla_count == 0) == (item.dla_int8_tops is None)


@pytest.mark.parametrize("name", devices())
def test_peaks_follow_from_units_and_clock(name: str) -> None:
    item = device(name)
    lanes = item.sm_count * 128 if item.compute_capability != "7.2" else item.sm_count * 64
    assert item.cuda_cores == lanes
    assert item.dense.fp32_tflops == pytest.approx(lanes * 2 * item.gpu_max_mhz / 1e6, rel=0.01)
    if item.tensor_cores and item.dense.int8_tops is not None:
        assert item.dense.fp16_tflops == pytest.approx(item.dense.int8_tops / 2, rel=0.01)


def test_marketing_is_never_taken_for_a_dense_peak() -> None:
    for name in ORIN_AND_THOR:
        item = device(name)
        printed, dense = item.marketing.sparse_int8_tops, item.dense.int8_tops
        assert dense is not None
        assert printed is None or printed > 1.5 * dense
    assert device("thor-t5000").marketing.sparse_fp4_tflops == 2070
    assert device("thor-t5000").dense.fp4_tflops == pytest.approx(1032.19)


def test_a_super_board_is_the_same_module_under_other_clocks() -> None:
    for name in ORIN_AND_THOR:
        item = device(name)
        assert (item.firmware == "super") == name.endswith("-super")
        plain = device(item.module)
        assert (plain.sm_count, plain.memory_gb, plain.modules) == (
            item.sm_count, item.memory_gb, item.modules,
        )  # fmt: skip
        assert item.gpu_max_mhz >= plain.gpu_max_mhz


def test_no_two_modules_share_a_part_number() -> None:
    plain = [item for item in devices().values() if not item.firmware]
    numbers_of = [part for item in plain for part in item.modules]
    assert len(numbers_of) == len(set(numbers_of))


@pytest.mark.parametrize("name", OLD)
def test_old_boards_are_refused_with_the_reason(name: str) -> None:
    item = device(name)
    assert releases_for(item) == ()
    assert "older than 10.3" in str(refusal(item))
    with pytest.raises(UsageError, match=r"older than 10\.3"):
        default_release(item)


@pytest.mark.parametrize("name", ORIN_AND_THOR)
def test_current_boards_have_releases_newest_first(name: str) -> None:
    known = releases_for(device(name))
    assert refusal(device(name)) is None
    versions = [numbers(item.version) for item in known]
    assert versions == sorted(versions, reverse=True)
    assert default_release(device(name)).l4t is not None


def test_every_release_brings_a_tensorrt_that_is_not_older_than_the_one_before() -> None:
    supported = [item for item in releases() if not item.refused]
    assert [numbers(item.tensorrt)[0] for item in supported] == [10] * len(supported)
    assert all(numbers(item.tensorrt) >= (10, 3) for item in supported)
    assert all(numbers(item.tensorrt) < (10, 3) for item in releases() if item.refused)


def test_boards_and_their_first_releases() -> None:
    firsts = {name: releases_for(device(name))[-1].version for name in ORIN_AND_THOR}
    assert firsts["orin-nano-8gb"] == firsts["agx-orin-64gb"] == "6.1"
    assert firsts["orin-nano-8gb-super"] == firsts["orin-nx-16gb-super"] == "6.2"
    assert (firsts["thor-t5000"], firsts["thor-t4000"]) == ("7.0", "7.1")


@pytest.mark.parametrize(
    ("l4t", "version"),
    [
        ("36.4", "6.1"), ("36.4.0", "6.1"), ("36.4.3", "6.2"), ("36.4.4", "6.2.1"),
        ("36.4.7", "6.2.1"), ("36.5.0", "6.2.2"), ("38.2", "7.0"), ("38.2.1", "7.0"),
        ("38.4.0", "7.1"), ("39.2.0", "7.2"), ("39.2.1", "7.2.1"),
        ("36.3.0", "6.0"), ("35.4.1", "5.1"), ("35.6.2", "5.1"), ("32.7.1", "4.6"),
        # newer than what is known, of a line that is not, older than what is known
        ("39.3", None), ("36.6", None), ("40.1", None), ("36.2", None), ("", None),
    ],
)  # fmt: skip
def test_jetson_linux_tells_the_jetpack(l4t: str, version: str | None) -> None:
    found = release_of_l4t(l4t)
    assert (found.version if found else None) == version


def test_names_that_are_none() -> None:
    with pytest.raises(UnknownNameError, match="orin-nano-8gb"):
        device("orin-nano")
    with pytest.raises(UnknownNameError, match=r"7\.2\.1"):
        release("8.0")
    assert release("6.2.0").version == "6.2"


@pytest.mark.parametrize(
    ("model", "module", "name"),
    [
        ("NVIDIA Jetson Orin Nano Developer Kit", "p3767-0005", "orin-nano-8gb"),
        (
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            "p3767-0005",
            "orin-nano-8gb-super",
        ),
        ("NVIDIA Jetson AGX Orin Developer Kit", "p3701-0005", "agx-orin-64gb"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "p3834-0008", "thor-t5000"),
        ("orin-nx-16gb", None, "orin-nx-16gb"),
        ("NVIDIA Jetson Orin Nano Developer Kit", None, None),
        ("Raspberry Pi 5", "p9999-0000", None),
        (None, None, None),
    ],
)
def test_a_board_is_known_by_its_module(
    model: str | None, module: str | None, name: str | None
) -> None:
    found = device_of(model, module)
    assert (found.name if found else None) == name


def test_facts_are_read_once() -> None:
    assert facts.devices() is facts.devices()
