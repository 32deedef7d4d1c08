"""What a TensorRT session does when the device or TensorRT fails, at every point where it can."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from helpers.fake_engines import AFFINE, POSITIVE, RESIZED, opened, rows

from jetlift.runtime.errors import EngineLibraryError, JetliftError
from jetlift.runtime.session.fake_cuda import FakeDevice, Misuse
from jetlift.runtime.session.fake_tensorrt import FakeLibrary
from jetlift.runtime.session.tensorrt import TensorRTSession

WAYS = [{}, {"overlap": True}, {"mapped": True}, {"cuda_graph": True}]
GRAVE = ("synchronize", "free")  # a device that fails in these is in error itself


def fail_at(device: FakeDevice, number: int) -> list[str]:
    """Let the nth call fail that is not grave. The list says which it was."""
    met: list[str] = []
    seen = iter(range(10**6))

    def before_call(name: str) -> None:
        if name not in GRAVE and next(seen) == number:
            met.append(name)
            raise EngineLibraryError(f"{name} failed")

    device.before_call = before_call
    return met


def refuse_at(library: FakeLibrary, number: int) -> list[str]:
    """Let TensorRT refuse its nth call. The list says which it was."""
    met: list[str] = []
    seen = iter(range(10**6))

    def refuses(name: str) -> bool:
        if next(seen) == number:
            met.append(name)
            return True
        return False

    library.refuses = refuses
    return met


def use(session: Any) -> None:
    """Three runs of two shapes: a graph is captured and memory grows."""
    for count in (2, 2, 9):
        x = rows(count, count)
        np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x + 1)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_failure_at_any_call_leaks_nothing(way: dict[str, bool]) -> None:
    names = set()
    for number in range(1000):
        device = FakeDevice()
        met = fail_at(device, number)
        try:
            session, _, _ = opened(AFFINE, device, **way)
            with session:
                use(session)
        except EngineLibraryError as error:
            assert "failed" in error.got or "out of memory" in error.got  # noqa: PT017 - it may raise nothing
        assert device.live == [], (number, met)
        if not met:
            break
        names.update(met)
    assert names >= {"stream", "event", "memory", "host_memory", "record"}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_refusal_at_any_call_leaks_nothing(way: dict[str, bool]) -> None:
    names = set()
    for number in range(1000):
        device = FakeDevice()
        library = FakeLibrary(device, AFFINE)
        met = refuse_at(library, number)
        try:
            with TensorRTSession(
                library, device, AFFINE.plan, library="tensorrt", **way
            ) as session:
                use(session)
        except JetliftError as error:
            assert "was refused" in error.got  # noqa: PT017 - it may raise nothing
        assert device.live == [], (number, met)
        if not met:
            break
        names.update(met)
    assert names >= {"deserialize_cuda_engine", "create_execution_context", "execute_async_v3"}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_after_a_failed_run_the_next_one_is_right(way: dict[str, bool]) -> None:
    for number in range(1000):
        device = FakeDevice()
        session, _, _ = opened(AFFINE, device, **way)
        with session:
            met = fail_at(device, number)
            with contextlib.suppress(EngineLibraryError):
                use(session)
            device.before_call = lambda _: None
            use(session)
        assert device.live == [], (number, met)
        if not met:
            break
    assert number > 5


@pytest.mark.parametrize(
    "call",
    ["set_input_shape", "set_tensor_address", "infer_shapes", "execute_async_v3"],
)
def test_what_tensorrt_refuses_is_told_in_its_words(call: str) -> None:
    session, device, library = opened(AFFINE)
    with session:
        library.refuses = lambda name: name == call
        with pytest.raises(EngineLibraryError, match=f"TensorRT could not .*{call} was refused"):
            session.run({"x": rows(1)})
        library.refuses = lambda _: False
        use(session)
    assert device.live == []


@pytest.mark.parametrize("call", ["deserialize_cuda_engine", "create_execution_context"])
def test_a_session_that_cannot_be_opened_holds_nothing(call: str) -> None:
    device = FakeDevice()
    library = FakeLibrary(device, AFFINE)
    library.refuses = lambda name: name == call
    with pytest.raises(JetliftError, match=f"{call} was refused"):
        TensorRTSession(library, device, AFFINE.plan, library="tensorrt")
    assert device.live == []


def test_shapes_that_do_not_go_together_are_tensorrts_to_refuse() -> None:
    session, _, library = opened(RESIZED)

    def refuse(*_: Any) -> Any:
        raise ValueError("the shapes contradict each other")

    library.model = session._engine._library.model
    object.__setattr__(library.model, "shapes", refuse)
    with session, pytest.raises(EngineLibraryError, match="contradict"):
        session.run({"x": np.float32([1]), "size": np.array([1, 1])})


def test_memory_that_is_missing_for_a_late_output_is_told() -> None:
    session, device, _ = opened(POSITIVE)
    with session:
        session.run({"x": np.float32([1])})

        def before_call(name: str) -> None:
            if name == "memory":
                raise EngineLibraryError("The GPU's memory is full")

        device.before_call = before_call
        with pytest.raises(EngineLibraryError, match="memory is full"):
            session.run({"x": np.ones(64, np.float32)})
        device.before_call = lambda _: None
        assert session.run({"x": np.ones(64, np.float32)})["y"].size == 64
    assert device.live == []


def test_a_broken_gpu_refuses_later_runs_and_closing_tells_nothing_new() -> None:
    session, device, _ = opened(AFFINE)

    def before_call(name: str) -> None:
        if name in ("synchronize", "free"):
            raise EngineLibraryError("CUDA could not finish a run: an illegal memory access")

    with session:
        device.before_call = before_call
        with pytest.raises(EngineLibraryError, match="illegal memory access"):
            session.run({"x": rows(1)})
        for _ in range(2):
            with pytest.raises(EngineLibraryError, match=r"earlier run.*Start the program again"):
                session.run({"x": rows(1)})
    session.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_thing_that_cannot_be_freed_keeps_nothing_else() -> None:
    session, device, _ = opened(AFFINE)
    session.run({"x": rows(1)})
    frees = iter(range(1000))

    def before_call(name: str) -> None:
        if name == "free" and next(frees) == 1:
            raise EngineLibraryError("free failed")

    device.before_call = before_call
    with pytest.raises(EngineLibraryError, match="free failed"):
        session.close()
    assert len(device.live) == 1
    session.close()


@pytest.mark.parametrize("call", ["copy_in", "copy_out", "record", "synchronize"])
def test_ctrl_c_in_a_run_leaves_no_result_behind(call: str) -> None:
    session, device, _ = opened(AFFINE)
    with session:
        hits = iter([True])

        def before_call(name: str) -> None:
            if name == call and next(hits, False):
                raise KeyboardInterrupt

        device.before_call = before_call
        with pytest.raises(KeyboardInterrupt):
            session.run({"x": rows(1, 5)})
        use(session)
    assert device.live == []


class TestTheFakeHoldsItsUserToTheRules:
    """A fake that forgives would prove nothing."""

    def test_calls_outside_the_context(self) -> None:
        with pytest.raises(Misuse, match="outside"):
            FakeDevice().memory(4)

    def test_looking_at_a_result_too_early(self) -> None:
        device = FakeDevice()
        with device.current():
            host, memory = device.host_memory(4, mapped=False), device.memory(4)
            stream = device.stream()
            device.copy_out(host, memory, 4, stream)
            with pytest.raises(Misuse, match="at work"):
                host.view(np.dtype(np.uint8), (4,))
            stream.synchronize()
            host.view(np.dtype(np.uint8), (4,))

    def test_freeing_what_is_in_use_and_freeing_twice(self) -> None:
        device = FakeDevice()
        with device.current():
            host, memory = device.host_memory(4, mapped=False), device.memory(4)
            stream = device.stream()
            device.copy_in(memory, host, 4, stream)
            with pytest.raises(Misuse, match="at work"):
                memory.free()
            stream.synchronize()
            memory.free()
            with pytest.raises(Misuse, match="twice"):
                memory.free()

    def test_using_what_is_freed(self) -> None:
        device = FakeDevice()
        with device.current():
            host, memory = device.host_memory(4, mapped=False), device.memory(4)
            stream = device.stream()
            memory.free()
            with pytest.raises(Misuse, match="freed"):
                device.copy_in(memory, host, 4, stream)

    def test_streams_that_do_not_wait_for_each_other(self) -> None:
        device = FakeDevice()
        with device.current():
            one, two = device.stream(), device.stream()
            first, middle, last = (device.host_memory(1, mapped=False) for _ in range(3))
            memory = device.memory(1)
            first.view(np.dtype(np.uint8), (1,))[:] = 7
            device.copy_in(memory, first, 1, one)
            device.copy_out(middle, memory, 1, two)  # nothing says: after stream one
            two.synchronize()
            assert middle.view(np.dtype(np.uint8), (1,))[0] != 7
            event = device.event()
            event.record(one)
            two.wait(event)
            device.copy_out(last, memory, 1, two)
            two.synchronize()
            assert last.view(np.dtype(np.uint8), (1,))[0] == 7
