"""Memory, threads and graphs of sessions on a GPU."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jetlift.runtime.session.cuda import cuda_device, pycuda_driver

SLACK_BYTES = 2 * 2**20  # what the driver takes in one piece


def free_bytes() -> int:
    with cuda_device().current():
        return int(pycuda_driver().mem_get_info()[0])


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def rows(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-2, 2, (count, 16)).astype(np.float32)


@pytest.mark.parametrize("way", [{}, {"cuda_graph": True}, {"mapped": True}], ids=str)
def test_ten_thousand_runs_leak_nothing(opened: Any, way: dict[str, bool]) -> None:
    with opened(**way) as session:
        x = rows(1)
        for _ in range(200):
            session.run({"x": x})
        free, resident = free_bytes(), resident_bytes()
        for _ in range(10_000):
            session.run({"x": x})
        assert free - free_bytes() <= SLACK_BYTES
        assert resident_bytes() - resident <= 8 * SLACK_BYTES


@pytest.mark.parametrize("way", [{}, {"cuda_graph": True}, {"mapped": True}], ids=str)
def test_the_gpu_s_clock_tells_copies_and_computation_apart(
    opened: Any, way: dict[str, bool]
) -> None:
    with opened(**way) as session:
        x = rows(1)
        for _ in range(20):
            session.run({"x": x})
        for _ in range(20):
            began_s = time.perf_counter()
            outputs, told = session.run_timed({"x": x})
            wall_ms = (time.perf_counter() - began_s) * 1e3
            np.testing.assert_array_equal(outputs["y"], session.run({"x": x})["y"])
            parts_ms = told.copy_in_ms + told.compute_ms + told.copy_out_ms
            assert told.compute_ms > 0
            assert min(told.copy_in_ms, told.copy_out_ms) >= 0
            assert told.with_copies_ms == pytest.approx(parts_ms, abs=0.01)
            assert told.with_copies_ms <= wall_ms
        assert session.activation_bytes >= 0


def test_sessions_that_come_and_go_leak_nothing(opened: Any) -> None:
    def once() -> None:
        with opened(cuda_graph=True, overlap=True) as session:
            for _ in range(3):
                session.run({"x": rows(1)})

    for _ in range(3):
        once()
    free = free_bytes()
    for _ in range(20):
        once()
    assert free - free_bytes() <= SLACK_BYTES


def test_two_threads_with_two_sessions(opened: Any) -> None:
    with opened() as session:
        wanted = [session.run({"x": rows(1, seed)})["y"] for seed in range(8)]
    problems: list[BaseException] = []

    def work() -> None:
        try:
            with opened(overlap=True) as session:
                for step in range(300):
                    answer = session.run({"x": rows(1, step % 8)})["y"]
                    np.testing.assert_array_equal(answer, wanted[step % 8])
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_session_moves_to_another_thread(opened: Any) -> None:
    session = opened()
    wanted = session.run({"x": rows(1)})["y"]
    answers: list[Any] = []

    def work() -> None:
        answers.append(session.run({"x": rows(1)})["y"])
        session.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(answers[0], wanted)


@pytest.mark.parametrize("way", [{"cuda_graph": True}, {"mapped": True}], ids=str)
def test_every_way_gives_the_same_numbers(opened: Any, way: dict[str, bool]) -> None:
    with opened() as plain, opened(**way) as other:
        for seed in range(6):
            feeds = {"x": rows(1, seed)}
            np.testing.assert_array_equal(other.run(feeds)["y"], plain.run(feeds)["y"])


def test_results_come_in_the_order_of_submission(opened: Any) -> None:
    with opened() as plain, opened(overlap=True) as session:
        wanted = [plain.run({"x": rows(1, seed)})["y"] for seed in range(50)]
        answers = []
        session.submit({"x": rows(1, 0)})
        for seed in range(1, 50):
            session.submit({"x": rows(1, seed)})
            answers.append(session.collect()["y"])
        answers.append(session.collect()["y"])
    np.testing.assert_array_equal(answers, wanted)


def test_outputs_belong_to_the_caller(opened: Any) -> None:
    with opened() as session:
        first = session.run({"x": rows(1, 1)})["y"]
        kept = first.copy()
        session.run({"x": rows(1, 2)})
    np.testing.assert_array_equal(first, kept)


def test_it_works_beside_pytorch(opened: Any) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    tensor = torch.arange(4096, device="cuda", dtype=torch.float32)
    with opened() as session:
        wanted = session.run({"x": rows(1)})["y"]
        for _ in range(50):
            tensor = tensor * 1.0
            np.testing.assert_array_equal(session.run({"x": rows(1)})["y"], wanted)
    assert torch.equal(tensor.cpu(), torch.arange(4096, dtype=torch.float32))
