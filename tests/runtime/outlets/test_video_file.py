"""Video of live sources: its rate, its parts, and the grid that frames lie on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.outlet_results import result
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import StorageError, UsageError
from jetlift.runtime.outlets.parts import Rotation
from jetlift.runtime.outlets.timeline import LONGEST_GAP_S, Timeline, measured_fps
from jetlift.runtime.outlets.video_file import video_sink
from jetlift.runtime.video import probe_video, video_frames

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def record(path: Path, times_s: Iterable[float], **options: object) -> None:
    with video_sink(path, **options) as sink:  # type: ignore[arg-type]
        assert sink.wants_pictures
        for index, time_s in enumerate(times_s):
            sink.write(result(index, captured_s=700.0 + time_s, drawn=True))


def greys(path: Path) -> list[int]:
    """Which frame lies at each place: 50 plus its number is its grey."""
    return [round(float(frame[:, :, 1].mean())) - 50 for _, frame in video_frames(path)]


def test_the_rate_is_that_of_the_capture_times(tmp_path: Path) -> None:
    record(tmp_path / "v.mp4", (index / 12.5 for index in range(40)))
    facts = probe_video(tmp_path / "v.mp4")
    assert facts.fps == pytest.approx(12.5)
    assert facts.frames == 40
    assert all(abs(got - index) <= 2 for index, got in enumerate(greys(tmp_path / "v.mp4")))


def test_over_a_gap_the_last_frame_stays_and_the_video_runs_as_fast_as_life(tmp_path) -> None:
    times_s = [index / 10 for index in range(60) if not 20 <= index < 40]
    record(tmp_path / "v.mp4", times_s)
    assert probe_video(tmp_path / "v.mp4").frames == 60
    shown = greys(tmp_path / "v.mp4")
    assert all(abs(shown[place] - 19) <= 2 for place in range(19, 40))
    assert abs(shown[45] - 25) <= 2


def test_a_source_that_was_lost_for_long_goes_on_without_a_gap(tmp_path: Path) -> None:
    record(tmp_path / "v.mp4", [*(i / 10 for i in range(20)), *(900 + i / 10 for i in range(20))])
    assert probe_video(tmp_path / "v.mp4").frames == 40


def test_frames_faster_than_the_rate_are_left_out(tmp_path: Path) -> None:
    record(tmp_path / "v.mp4", (index / 50 for index in range(100)), fps=25)
    assert probe_video(tmp_path / "v.mp4").frames in (50, 51)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_few_frames_are_a_video_too(tmp_path: Path, count: int) -> None:
    record(tmp_path / "v.mp4", (index / 10 for index in range(count)))
    assert probe_video(tmp_path / "v.mp4").frames == count


def test_no_frame_gives_no_file(tmp_path: Path) -> None:
    record(tmp_path / "v.mp4", ())
    assert names(tmp_path) == []


def test_another_size_begins_another_part(tmp_path: Path) -> None:
    with video_sink(tmp_path / "v.mp4") as sink:
        for index in range(30):
            size_wh = (64, 48) if index < 5 else (80, 60) if index < 20 else (64, 48)
            sink.write(result(index, size_wh=size_wh, drawn=True))
    assert names(tmp_path) == ["v-000002.mp4", "v-000003.mp4", "v.mp4"]
    facts = [probe_video(tmp_path / name) for name in ("v.mp4", "v-000002.mp4", "v-000003.mp4")]
    assert [item.frames for item in facts] == [5, 15, 10]
    assert [item.size_wh for item in facts] == [(64, 48), (80, 60), (64, 48)]
    assert {item.fps for item in facts} == {25.0}
    assert sink.health().written == 30


def test_parts_by_age_lose_no_frame(tmp_path: Path) -> None:
    clock = FakeClock()
    with video_sink(tmp_path / "v.mp4", rotation=Rotation(part_s=1), clock=clock) as sink:
        for index in range(70):
            sink.write(result(index, drawn=True))
            clock.advance(1 / 25)
    frames = [probe_video(path).frames for path in sorted(tmp_path.iterdir())]
    assert len(frames) == 3
    assert sum(frames) == 70


def test_the_oldest_parts_go_while_the_source_goes_on(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    with video_sink(tmp_path / "v.mp4", rotation=Rotation(keep_bytes=2_000_000)) as sink:
        for index in range(600):
            picture = noise.integers(0, 255, (96, 128, 3), np.uint8)
            sink.write(replace(result(index), drawn_bgr=picture))
    assert sink.removed > 0
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_100_000
    assert "v-000001.mp4" not in names(tmp_path)


def test_live_sources_side_by_side_have_files_of_their_own(tmp_path: Path) -> None:
    with video_sink(tmp_path / "v.mp4") as sink:
        for index in range(10):
            for source, size_wh in (("rtsp://h/yard", (64, 48)), ("/dev/video1", (32, 32))):
                sink.write(result(index, source=source, size_wh=size_wh, drawn=True))
    assert names(tmp_path) == ["v.mp4", "v.video1.mp4"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), video_sink(tmp_path / "v.mp4") as sink:
        for index in range(20):
            sink.write(result(index, drawn=True))
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_task_that_draws_nothing_is_told_at_once(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="draws no pictures"),
        video_sink(tmp_path / "v.mp4") as sink,
    ):
        sink.write(result(0))


def test_too_little_space_is_told_before_anything_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(StorageError, match="Sink video: Only 1 MiB are free"):
        record(tmp_path / "v.mp4", (index / 25 for index in range(64)))
    assert names(tmp_path) == []


@given(st.floats(1, 120), st.integers(2, 30), st.floats(0, 1e6))
def test_an_even_source_has_its_own_rate(fps: float, count: int, start_s: float) -> None:
    times_s = [start_s + index / fps for index in range(count)]
    assert measured_fps(times_s) == pytest.approx(fps, abs=2e-3)


@given(st.lists(st.floats(0, 1e6), max_size=20))
def test_any_times_give_a_rate_that_a_video_can_have(times_s: list[float]) -> None:
    assert 1 <= measured_fps(times_s) <= 120


@given(st.floats(1, 120), st.lists(st.floats(1e-3, LONGEST_GAP_S - 0.01), min_size=1))
def test_a_video_is_as_long_as_what_was_seen(fps: float, steps_s: list[float]) -> None:
    timeline, time_s, places = Timeline(fps), 500.0, 0
    first_s = None
    for step_s in steps_s:
        time_s += step_s
        first_s = time_s if first_s is None else first_s
        passed = timeline.places(time_s)
        assert passed >= 0
        places += passed
    assert abs((places - 1) / fps - (time_s - first_s)) <= 1 / fps + 1e-6
