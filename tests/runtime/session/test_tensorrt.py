"""The TensorRT session's protocol, against the fake device and the fake engine."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.fake_engines import (
    AFFINE,
    BUCKETS,
    PACES,
    POSITIVE,
    RESIZED,
    TWO,
    WAYS,
    opened,
    paced,
    rows,
)

from jetlift.runtime.errors import EngineLibraryError, PassportError, UsageError
from jetlift.runtime.manifest import Part, TensorSpec
from jetlift.runtime.session.fake_cuda import FakeDevice
from jetlift.runtime.session.fake_model import FakeModel, FakeTensor
from jetlift.runtime.session.fake_tensorrt import FakeLibrary
from jetlift.runtime.session.tensorrt import TensorRTSession


@pytest.fixture(params=WAYS, ids=lambda way: "+".join(way) or "plain")
def way(request: pytest.FixtureRequest) -> dict[str, bool]:
    return request.param


@pytest.mark.parametrize("pace", PACES)
def test_it_computes_one_shape_after_another(way: dict[str, bool], pace: str) -> None:
    session, device, _ = opened(AFFINE, paced(pace), **way)
    with session:
        for seed, count in enumerate([2, 2, 2, 9, 1, 2, 2, 9, 9]):
            x = rows(count, seed)
            np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x + 1)
    assert device.live == []


@pytest.mark.parametrize("pace", PACES)
def test_types_keep_their_values(way: dict[str, bool], pace: str) -> None:
    session, _, _ = opened(TWO, paced(pace), **way)
    feeds = {"a": np.array([1, -2, 2**40]), "b": np.array([0.5, 0, -1], np.float16)}
    with session:
        for _ in range(3):
            answer = session.run(feeds)
            assert (answer["sum"].dtype, answer["more"].dtype) == (np.float32, np.bool_)
            np.testing.assert_array_equal(answer["sum"], np.float32([1.5, -2, 2**40 - 1]))
            assert answer["more"].tolist() == [True, False, True]


@pytest.mark.parametrize("pace", PACES)
def test_shapes_that_follow_from_values(way: dict[str, bool], pace: str) -> None:
    session, _, _ = opened(RESIZED, paced(pace), **way)
    with session:
        for size in [(2, 3), (2, 3), (2, 3), (4, 4), (1, 1), (2, 3), (3, 2)]:
            x = np.arange(5, dtype=np.float32)
            answer = session.run({"x": x, "size": np.array(size)})["y"]
            np.testing.assert_array_equal(answer, np.resize(x, size))


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("way", [{}, {"mapped": True}, {"overlap": True}])
def test_shapes_that_follow_from_the_data(way: dict[str, bool], pace: str) -> None:
    session, device, _ = opened(POSITIVE, paced(pace), **way)
    with session:
        for seed, count in enumerate([3, 64, 5, 64, 1, 1]):
            x = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
            np.testing.assert_array_equal(session.run({"x": x})["y"], x[x > 0])
        assert session.run({"x": np.float32([-1])})["y"].shape == (0,)
    assert device.live == []


def test_a_shape_that_follows_from_the_data_fits_no_graph() -> None:
    session, device, _ = opened(POSITIVE, cuda_graph=True)
    with session, pytest.raises(UsageError, match="depends on the data"):
        session.run({"x": np.float32([1])})
    assert device.live == []


def test_it_describes_itself() -> None:
    session, _, _ = opened(AFFINE)
    with session:
        assert session.info.library == "tensorrt"
        assert session.info.device == "fake GPU"
        (x,), (y,) = session.inputs, session.outputs
    assert (x.name, x.dtype, x.shape[1]) == ("x", "float32", 4)
    assert isinstance(x.shape[0], str)
    assert (y.name, y.dtype) == ("y", "float32")


def test_names_of_axes_are_the_parts() -> None:
    x = TensorSpec("x", "float32", ("batch", 4))
    y = TensorSpec("y", "float32", ("batch", 4))
    session, _, _ = opened(part=_part(x, y))
    with session:
        assert (session.inputs, session.outputs) == ((x,), (y,))


def test_an_engine_of_another_part_is_refused() -> None:
    device = FakeDevice()
    x, y = TensorSpec("x", "int64", ("batch", 4)), TensorSpec("y", "float32", ("batch", 4))
    with pytest.raises(PassportError, match="another graph"):
        opened(AFFINE, device, part=_part(x, y))
    gc.collect()
    assert device.live == []


def _part(x: TensorSpec, y: TensorSpec) -> Part:
    return Part(inputs=(x,), outputs=(y,), parameters=0, preprocess=None, variants={})


def test_outputs_belong_to_the_caller(way: dict[str, bool]) -> None:
    session, _, _ = opened(AFFINE, **way)
    with session:
        first = session.run({"x": rows(2, 1)})["y"]
        kept = first.copy()
        second = session.run({"x": rows(2, 2)})["y"]
        second[:] = 0
        np.testing.assert_array_equal(first, kept)
        third = session.run({"x": rows(2, 1)})["y"]
    np.testing.assert_array_equal(first, kept)  # and after the memory is spoilt
    np.testing.assert_array_equal(third, kept)


@pytest.mark.parametrize(
    ("feeds", "told"),
    [
        ({"x": rows(10)}, "from [1, 4] to [9, 4]"),
        ({"x": rows(0)}, "from [1, 4] to [9, 4]"),
        ({"x": rows(1).astype(np.float64)}, "float32"),
        ({}, "Feeds for x"),
    ],
)
def test_feeds_that_do_not_fit_never_reach_the_device(feeds: Any, told: str) -> None:
    session, device, _ = opened(AFFINE)
    with session:
        device.log.clear()
        with pytest.raises(UsageError) as caught:
            session.run(feeds)
        assert told in caught.value.expected
        assert not device.log


@pytest.mark.parametrize("pace", PACES)
def test_a_run_takes_the_profile_that_it_fits(way: dict[str, bool], pace: str) -> None:
    session, device, _ = opened(BUCKETS, paced(pace), **way)
    with session:
        for seed, count in enumerate([1, 1, 9, 9, 9, 3, 6, 6, 1, 1]):
            x = rows(count, seed)
            np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x + 1)
        with pytest.raises(UsageError) as caught:
            session.run({"x": rows(4)})
    assert "from [1, 4] to [3, 4], or from [6, 4] to [9, 4]" in caught.value.expected
    assert device.live == []


def test_inputs_that_fit_different_profiles_are_refused() -> None:
    inputs = tuple(
        FakeTensor(name, "FLOAT", (-1,), (((1,), (2,)), ((5,), (9,)))) for name in ("a", "b")
    )
    model = FakeModel(
        inputs,
        (FakeTensor("y", "FLOAT", (-1,)),),
        lambda given: {"y": given["a"]},
        lambda shapes, _: {"y": shapes["a"]},
    )
    session, _, _ = opened(model)
    with session:
        session.run({"a": np.ones(2, np.float32), "b": np.ones(1, np.float32)})
        session.run({"a": np.ones(5, np.float32), "b": np.ones(9, np.float32)})
        with pytest.raises(UsageError, match="one of the engine's 2 optimisation profiles"):
            session.run({"a": np.ones(2, np.float32), "b": np.ones(9, np.float32)})


def test_values_outside_the_profile_are_refused() -> None:
    session, _, _ = opened(RESIZED)
    with session, pytest.raises(UsageError, match=r"\[1, 1\] to \[4, 4\]"):
        session.run({"x": np.float32([1]), "size": np.array([2, 5])})


@pytest.mark.parametrize("form", [np.asfortranarray, lambda x: x[:, ::-1], lambda x: x[::-1]])
def test_the_layout_of_a_feed_does_not_matter(form: Any) -> None:
    session, _, _ = opened(AFFINE)
    x = form(rows(4))
    with session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x + 1)


def test_memory_is_taken_once_per_shape(way: dict[str, bool]) -> None:
    session, device, _ = opened(AFFINE, **way)
    with session:
        for _ in range(2):
            session.run({"x": rows(9)})
        taken = {kind: device.taken[kind] for kind in ("memory", "host_memory")}
        if not session._captures:  # with graphs each shape has a context of its own
            for seed in range(20):
                session.run({"x": rows(1 + seed % 9, seed)})
        session.run({"x": rows(9)})
        assert taken == {kind: device.taken[kind] for kind in taken}


def test_shapes_and_addresses_are_told_once() -> None:
    session, device, _ = opened(AFFINE)
    with session:
        session.run({"x": rows(2)})
        device.log.clear()
        session.run({"x": rows(2)})
        calls = ["copy_in", "execute_async_v3", "copy_out", "record", "synchronize"]
        assert list(device.log) == calls


def test_mapped_memory_is_not_copied() -> None:
    session, device, _ = opened(AFFINE, mapped=True)
    with session:
        session.run({"x": rows(2)})
        assert not {"copy_in", "copy_out"} & set(device.log)


def test_a_graph_is_captured_at_the_second_run_and_launched_from_then_on() -> None:
    session, device, _ = opened(AFFINE, cuda_graph=True)
    with session:
        counts = []
        for _ in range(4):
            session.run({"x": rows(2)})
            counts.append((device.log.count("execute_async_v3"), device.log.count("launch")))
        assert counts == [(1, 0), (2, 1), (2, 2), (2, 3)]


def test_graphs_of_many_shapes_do_not_pile_up() -> None:
    session, device, _ = opened(AFFINE, cuda_graph=True)
    with session:
        for _ in range(3):
            for count in range(1, 10):
                for seed in range(3):
                    x = rows(count, seed)
                    np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x + 1)
        held = len(device.live)
        assert held < 30
    assert device.live == []


@pytest.mark.parametrize(("runs", "cuda_graph"), [(10_000, False), (2_000, True)])
def test_ten_thousand_runs_leak_nothing(runs: int, cuda_graph: Any) -> None:
    session, device, _ = opened(AFFINE, cuda_graph=cuda_graph)
    with session:
        session.run({"x": rows(9)})
        session.run({"x": rows(9)})
        before, live = sum(device.taken.values()), len(device.live)
        x = rows(9)
        for _ in range(runs):
            session.run({"x": x})
        assert sum(device.taken.values()) == before
        assert len(device.live) == live
    assert device.live == []


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            replace(AFFINE, outputs=(FakeTensor("y", "BF16", (-1, 4)),)),
            "numpy has no type",
        ),
        (replace(AFFINE, inputs=(FakeTensor("x", "FP8", (1, 4)),)), "numpy has no type"),
    ],
)
def test_types_that_numpy_lacks_are_refused(model: FakeModel, told: str) -> None:
    device = FakeDevice()
    with pytest.raises(EngineLibraryError, match=told):
        opened(model, device)
    assert device.live == []


def test_a_file_that_is_no_engine_is_refused_with_tensorrts_reason() -> None:
    device = FakeDevice()
    library = FakeLibrary(device, AFFINE)
    with pytest.raises(PassportError, match=r"magic tag.*jetlift build"):
        TensorRTSession(library, device, b"something else", library="tensorrt")
    assert device.live == []
