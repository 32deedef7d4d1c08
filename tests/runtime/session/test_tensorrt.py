"""The TensorRT session's protocol, against the fake device and the fake engine."""

from __future__ import annotations

import gc
import random
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.fake_engines import AFFINE, BUCKETS, POSITIVE, RESIZED, TWO, opened, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.errors import EngineLibraryError, PassportError, UsageError
from jetlift.runtime.manifest import Part, TensorSpec
from jetlift.runtime.session.fake_cuda import FakeDevice
from jetlift.runtime.session.fake_model import FakeModel, FakeTensor
from jetlift.runtime.session.fake_tensorrt import FakeLibrary
from jetlift.runtime.session.tensorrt import TensorRTSession

WAYS = [
    {},
    {"cuda_graph": True},
    {"mapped": True},
    {"overlap": True},
    {"cuda_graph": True, "overlap": True},
    {"mapped": True, "overlap": True, "cuda_graph": True},
]
PACES = ["lazy", "eager", "chance"]


def paced(pace: str, seed: int = 0) -> FakeDevice:
    return FakeDevice(pace=random.Random(seed) if pace == "chance" else pace)  # type: ignore[arg-type] # noqa: S311


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


def test_feeds_are_free_once_submitted() -> None:
    session, _, _ = opened(AFFINE, overlap=True)
    x = rows(3)
    wanted = 2 * x + 1
    with session:
        session.submit({"x": x})
        x[:] = 7
        np.testing.assert_array_equal(session.collect()["y"], wanted)


@pytest.mark.parametrize("way", [w for w in WAYS if "overlap" in w])
@pytest.mark.parametrize("pace", PACES)
def test_two_runs_are_under_way_at_once(way: dict[str, bool], pace: str) -> None:
    session, device, _ = opened(AFFINE, paced(pace), **way)
    given_rows = [rows(1 + seed % 3, seed) for seed in range(12)]
    answers = []
    with session:
        session.submit({"x": given_rows[0]})
        for x in given_rows[1:]:
            session.submit({"x": x})
            answers.append(session.collect()["y"])
        answers.append(session.collect()["y"])
    for x, answer in zip(given_rows, answers, strict=True):
        np.testing.assert_array_equal(answer, 2 * x + 1)
    assert device.live == []


def test_submit_comes_back_before_anything_is_computed() -> None:
    session, device, _ = opened(AFFINE, FakeDevice(delay_s=0.05), overlap=True)
    with session:
        session.submit({"x": rows(1)})
        session.submit({"x": rows(2)})
        assert device.done == 0
        session.collect()
        first_alone = device.done
        session.collect()
    assert 0 < first_alone < device.done  # collecting waits for its own run, not for the next


def test_a_third_run_has_no_place() -> None:
    session, _, _ = opened(AFFINE, overlap=True)
    with session:
        session.submit({"x": rows(1)})
        session.submit({"x": rows(1)})
        with pytest.raises(UsageError, match="2 runs are under way"):
            session.submit({"x": rows(1)})
        session.collect()
        session.submit({"x": rows(1)})


def test_collect_and_run_say_what_is_under_way() -> None:
    session, _, _ = opened(AFFINE)
    with session:
        with pytest.raises(UsageError, match="No run"):
            session.collect()
        session.submit({"x": rows(1)})
        with pytest.raises(UsageError, match="Collect them first"):
            session.run({"x": rows(1)})
        session.collect()
        session.run({"x": rows(1)})


def test_closing_with_runs_under_way_waits_for_them(way: dict[str, bool]) -> None:
    session, device, _ = opened(AFFINE, **way)
    with session:
        session.submit({"x": rows(1)})
    assert device.live == []
    session.close()
    for call in (session.run, session.submit):
        with pytest.raises(UsageError, match="closed"):
            call({"x": rows(1)})


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


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_order_of_submit_and_collect_gives_the_right_results(data: st.DataObject) -> None:
    pace = random.Random(data.draw(st.integers(0, 2**16)))  # noqa: S311
    way = data.draw(st.sampled_from([w for w in WAYS if "overlap" in w]))
    session, device, _ = opened(AFFINE, FakeDevice(pace=pace), **way)
    waiting: list[Any] = []
    with session:
        for seed, count in enumerate(data.draw(st.lists(st.integers(0, 4), max_size=14))):
            if count and len(waiting) < 2:
                waiting.append(rows(count, seed))
                session.submit({"x": waiting[-1]})
            elif waiting:
                x = waiting.pop(0)
                np.testing.assert_array_equal(session.collect()["y"], 2 * x + 1)
    assert device.live == []


def test_two_threads_with_two_sessions_on_one_device() -> None:
    device = FakeDevice(pace=random.Random(1))  # noqa: S311
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            session, _, _ = opened(AFFINE, device, overlap=True)
            with session:
                for step in range(60):
                    x = rows(1 + (seed + step) % 9, seed)
                    np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x + 1)
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert device.live == []


def test_a_session_may_move_to_another_thread() -> None:
    session, device, _ = opened(AFFINE)
    answers: list[Any] = []

    def work() -> None:
        answers.append(session.run({"x": rows(2)})["y"])
        session.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(answers[0], 2 * rows(2) + 1)
    assert device.live == []


def test_one_thread_submits_while_another_collects() -> None:
    session, device, _ = opened(AFFINE, FakeDevice(pace="eager"), overlap=True)
    room, ready = threading.Semaphore(2), threading.Semaphore(0)
    problems: list[BaseException] = []

    def submit() -> None:
        try:
            for step in range(60):
                room.acquire()
                session.submit({"x": rows(1 + step % 9, step)})
                ready.release()
        except BaseException as error:  # noqa: BLE001
            problems.append(error)
            ready.release()

    with session:
        thread = threading.Thread(target=submit)
        thread.start()
        for step in range(60):
            ready.acquire()
            if problems:
                break
            x = rows(1 + step % 9, step)
            np.testing.assert_array_equal(session.collect()["y"], 2 * x + 1)
            room.release()
        thread.join()
    assert problems == []
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
