from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.benchmarks.board_peak import peak_at, present_peak
from jetlift.jetson.facts import devices
from jetlift.runtime.figure import Figure
from jetlift.runtime.power_form import Clock, Conditions

NANO = devices()["orin-nano-8gb"]
MODES = [(device, mode) for device in devices().values() for mode in device.power_modes]


def state(mhz: float) -> Conditions:
    clock = Clock("gpu", Figure(mhz), Figure(mhz), Figure(mhz))
    none = Figure.missing("not told")
    return Conditions("sysfs", "7W", None, (clock,), (), none, (), ())


def test_the_peak_follows_active_sms_and_clock() -> None:
    peak, reason = present_peak("orin-nano-8gb", "7W", [None])
    assert peak is not None
    assert reason == ""
    assert peak.basis == "facts"
    mode = next(item for item in NANO.power_modes if item.name == "7W")
    dense = NANO.dense.int8_tops or 0.0
    expected = dense * mode.sm_active / NANO.sm_count * mode.gpu_max_mhz / NANO.gpu_max_mhz
    assert peak.compute["int8"].tops.value == pytest.approx(expected, rel=1e-4)
    assert "4 of 8 SMs at 408 MHz" in peak.compute["int8"].how


def test_the_clock_that_was_seen_counts() -> None:
    slow, _ = present_peak("orin-nano-8gb", None, [state(204.0)])
    fast, _ = present_peak("orin-nano-8gb", "7W", [])
    assert slow is not None
    assert fast is not None
    ratio = (fast.compute["fp16"].tops.value or 0) / (slow.compute["fp16"].tops.value or 1)
    assert ratio == pytest.approx(2.0, rel=1e-3)
    assert "seen" in slow.compute["fp16"].how


@pytest.mark.parametrize(
    ("device", "mode", "words"),
    [
        (None, None, "in no table"),
        ("orin-nano-8gb", None, "is not told"),
        ("orin-nano-8gb", "9W", "'9W' is in no table"),
    ],
)
def test_what_is_not_known_has_no_peak(device: str | None, mode: str | None, words: str) -> None:
    peak, reason = present_peak(device, mode, [])
    assert peak is None
    assert words in reason


@given(st.sampled_from(MODES))
def test_no_mode_reaches_more_than_the_board_or_what_is_printed(pair: tuple) -> None:  # type: ignore[type-arg]
    device, mode = pair
    peak = peak_at(device, mode, min(mode.gpu_max_mhz, device.gpu_max_mhz), seen=False)
    for name, whole in (("int8", device.dense.int8_tops), ("fp16", device.dense.fp16_tflops)):
        if whole is not None:
            assert (peak.compute[name].tops.value or 0) <= whole * 1.001
    sparse = device.marketing.sparse_int8_tops
    if sparse is not None and "int8" in peak.compute:
        assert (peak.compute["int8"].tops.value or 0) < sparse
