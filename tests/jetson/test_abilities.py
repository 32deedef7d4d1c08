from __future__ import annotations

import pytest

from jetlift.jetson.abilities import PRECISIONS, abilities, precision
from jetlift.jetson.facts import device, devices, release, releases


@pytest.mark.parametrize("name", devices())
@pytest.mark.parametrize("version", [item.version for item in releases()])
def test_every_answer_has_a_reason_and_a_source(name: str, version: str) -> None:
    able = abilities(device(name), release(version))
    assert list(able) == ["tensorrt", *PRECISIONS, "strong_typing", "dla", "tensorrt_11"]
    for item in able.values():
        assert item.reason
        assert not item.reason.endswith(".")
        assert item.source


@pytest.mark.parametrize(
    ("name", "version", "ability", "able", "words"),
    [
        ("orin-nano-8gb", "6.2", "fp16", True, "tensor cores"),
        ("orin-nano-8gb", "6.2", "int8", True, "Q/DQ"),
        ("orin-nano-8gb", "6.2", "bf16", True, "the builder on the board decides"),
        ("orin-nano-8gb", "6.2", "fp8", False, "SM 8.9 or newer"),
        ("agx-orin-64gb", "7.2.2", "fp4", False, "SM 10.0 or newer"),
        ("thor-t5000", "7.0", "bf16", True, "tensor cores"),
        ("thor-t5000", "7.0", "fp8", True, "tensor cores"),
        ("thor-t4000", "7.1", "fp4", True, "tensor cores"),
        ("orin-nano-8gb", "7.1", "tensorrt", False, "10.13.3 has no kernels for SM 8.7"),
        ("orin-nano-8gb", "7.0", "tensorrt", False, "Thor alone"),
        ("thor-t5000", "6.2", "tensorrt", False, "alone"),
        ("thor-t4000", "7.0", "tensorrt", False, "T4000 came with a later release"),
        ("orin-nx-8gb-super", "6.1", "tensorrt", False, "Super firmware"),
        ("agx-orin-64gb", "6.0", "tensorrt", False, "older than 10.3"),
        ("xavier-nx-8gb", "5.1", "tensorrt", False, "older than 10.3"),
        ("orin-nano-8gb", "6.2", "dla", False, "has no DLA"),
        ("orin-nx-16gb", "6.2", "dla", True, "2 DLA"),
        ("orin-nx-16gb", "7.2.2", "dla", False, "AGX Orin alone"),
        ("agx-orin-64gb", "7.2", "dla", False, "10.7 was the last"),
        ("agx-orin-64gb", "7.2.2", "dla", True, "with TensorRT 11.4.1 installed"),
        ("thor-t5000", "7.2.2", "dla", False, "has no DLA"),
        ("agx-orin-64gb", "7.2.2", "tensorrt_11", True, "11.4.1"),
        ("thor-t4000", "7.2.2", "tensorrt_11", True, "11.4.1"),
        ("agx-orin-64gb", "7.2.1", "tensorrt_11", False, "7.2.2 or newer"),
        ("orin-nx-16gb", "7.2.2", "tensorrt_11", False, "AGX Orin or Thor"),
        ("agx-orin-64gb", "6.2", "tensorrt_11", False, "7.2.2 or newer"),
        ("thor-t5000", "7.2.1", "strong_typing", True, "graph says the precision"),
    ],
)
def test_what_boards_can_do(name, version, ability, able, words) -> None:
    found = abilities(device(name), release(version))[ability]
    assert found.able is able
    assert words in found.reason


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_newer_gpu_loses_no_precision(name: str) -> None:
    order = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "11.0", "12.0", "12.1")
    answers = [precision(name, capability).able for capability in order]
    assert answers == sorted(answers)
