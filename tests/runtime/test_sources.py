from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.listing import Skipped
from jetlift.runtime.sources import Frame, frame_at, open_frame_sources, open_source
from jetlift.runtime.video import VideoFacts

if TYPE_CHECKING:
    from collections.abc import Iterator


def picture(level: int, size_wh: tuple[int, int] = (24, 16)) -> np.ndarray:
    return np.full((size_wh[1], size_wh[0], 3), level, np.uint8)


def write_picture(path: Path, level: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(level))
    return path


def write_video(path: Path, frames: int = 5) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for number in range(frames):
        writer.write(picture(40 * number, (64, 48)))
    writer.release()
    return path


def write_cut_jpeg(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    content = cv2.imencode(".jpg", noise)[1].tobytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def seen(frames: list[Frame]) -> list[tuple[str, int, int]]:
    return [(Path(f.source).name, f.index, round(float(f.image_bgr.mean()))) for f in frames]


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        write_picture(tmp_path / f"shot{number}.png", number)
    write_video(tmp_path / "film.mp4")
    (tmp_path / "notes.txt").write_text("no picture")
    with open_source([str(tmp_path)]) as source:
        assert source.count == 3
        assert source.fps is None
        frames = list(source)
    assert seen(frames) == [("shot1.png", 0, 1), ("shot9.png", 0, 9), ("shot10.png", 0, 10)]
    assert {frame.time_s for frame in frames} == {0.0}
    assert frames[0].source == str(tmp_path / "shot1.png")
    assert source.skipped == []


def test_a_video_gives_its_frames_with_times(tmp_path: Path) -> None:
    with open_source([str(write_video(tmp_path / "film.mp4"))]) as source:
        assert (source.count, source.fps) == (5, 10.0)
        frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert source.skipped == []


def test_a_pattern_takes_pictures_and_videos_in_order(tmp_path: Path) -> None:
    write_picture(tmp_path / "a1.png", 1)
    write_video(tmp_path / "a2.mp4", frames=1)
    write_picture(tmp_path / "a3.png", 3)
    with open_source([str(tmp_path / "a*")]) as source:
        assert source.count == 3
        assert [name for name, _, _ in seen(list(source))] == ["a1.png", "a2.mp4", "a3.png"]


def test_several_inputs_follow_each_other_and_the_limit_holds(tmp_path: Path) -> None:
    still = write_picture(tmp_path / "still.png", 7)
    film = write_video(tmp_path / "film.mp4")
    with open_source([str(still), str(film), str(still)], limit=3) as source:
        assert source.count == 3
        found = [(name, index) for name, index, _ in seen(list(source))]
        assert found == [("still.png", 0), ("film.mp4", 0), ("film.mp4", 1)]
    assert source.skipped == []  # the rest of the film was not asked for


def test_unreadable_pictures_are_counted_and_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 1)
    write_cut_jpeg(tmp_path / "b.jpg")
    (tmp_path / "c.png").write_text("text")
    (tmp_path / "d.png").touch()
    write_picture(tmp_path / "e.png", 5)
    with open_source([str(tmp_path)]) as source:
        frames = list(source)
        assert seen(frames) == [("a.png", 0, 1), ("e.png", 0, 5)]
        assert [Path(item.source).name for item in source.skipped] == ["b.jpg", "c.png", "d.png"]
        assert source.skipped[0] == Skipped(str(tmp_path / "b.jpg"), "it is a JPEG without its end")
        assert seen(list(source)) == seen(frames)
        assert len(source.skipped) == 3  # counted once per iteration


def test_where_nothing_can_be_read_the_end_is_an_error(tmp_path: Path) -> None:
    for number in range(5):
        write_cut_jpeg(tmp_path / f"{number}.jpg")
    with open_source([str(tmp_path)]) as source, pytest.raises(InputError) as caught:
        list(source)
    message = str(caught.value)
    assert message.startswith("None of the 5 inputs could be read (")
    assert "0.jpg: it is a JPEG without its end" in message
    assert "and 2 more" in message
    assert "\n" not in message


def test_a_named_cut_picture_is_an_error(tmp_path: Path) -> None:
    path = write_cut_jpeg(tmp_path / "a.jpg")
    with open_source([str(path)]) as source, pytest.raises(InputError, match="without its end"):
        list(source)


@pytest.mark.parametrize("kind", ["missing", "empty folder", "text.mp4", "zero.mp4", "data.bin"])
def test_what_cannot_work_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "empty folder":
        path.mkdir()
    elif kind == "zero.mp4":
        write_video(path, frames=0)
    elif kind != "missing":
        path.write_text("only text " * 100)
    with pytest.raises(InputError) as caught:
        open_source([str(write_picture(tmp_path / "good.png")), str(path)])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_without_a_pictures_suffix_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(write_picture(tmp_path / "a.png", 9).read_bytes())
    with open_source([str(path)]) as source:
        assert seen(list(source)) == [("upload", 0, 9)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ftp://host/film.mp4", "unknown kind"),
        ("mic", "takes pictures"),
        ("mic://hw:0", "takes pictures"),
        ("synthetic://1x1@1", "asks for 1x1"),
        ("rtsp://", "names no host"),
    ],
)
def test_inputs_that_cannot_be_are_refused(name: str, said: str) -> None:
    for opens in (open_source, open_frame_sources):
        with pytest.raises(UsageError, match=said):
            opens([name])


def test_live_inputs_are_sources_of_their_own_and_files_are_one(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    film = write_video(tmp_path / "film.mp4")
    names = ["synthetic://96x100@50?frames=3", str(tmp_path / "*.png"), "synthetic://96x100@50"]
    first, second, files = open_frame_sources([*names, str(film)], clock=FakeClock())
    assert [source.live for source in (first, second, files)] == [True, True, False]
    assert [frame.index for frame in first.frames()] == [0, 1, 2]
    assert [frame.index for frame in files.frames()] == [0, *range(5)]
    health = files.health()
    assert (health.captured, health.skipped, health.live) == (6, 1, False)
    assert "b.png" in health.trouble
    assert files.name == f"{tmp_path}/*.png and 1 more"
    second.close()


def test_a_limit_holds_for_each_source(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4")
    sources = open_frame_sources(["synthetic://96x100@50", str(film)], limit=2, clock=FakeClock())
    assert [len(list(source.frames())) for source in sources] == [2, 2]
    assert [source.count for source in sources] == [2, 2]  # type: ignore[attr-defined]  # theirs
    assert not sources[0].health().connected


def test_files_end_where_they_are_closed(tmp_path: Path) -> None:
    (source,) = open_frame_sources([str(write_video(tmp_path / "film.mp4"))])
    frames = source.frames()
    next(frames)
    source.close()
    assert list(frames) == []
    assert not source.health().connected


def test_a_live_input_stands_in_line() -> None:
    with open_source(["synthetic://96x100@1000?frames=3"], limit=4) as source:
        assert source.count == 4
        assert {frame.source for frame in source} == {"synthetic://96x100@1000?frames=3"}


def test_a_missing_camera_is_refused() -> None:
    with pytest.raises(InputError, match="There is no camera /dev/video977"):
        open_source(["/dev/video977"])


@pytest.mark.parametrize("inputs", [[], ()])
def test_no_input_is_refused(inputs: list[str]) -> None:
    with pytest.raises(UsageError, match="No input"):
        open_source(inputs)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(tmp_path: Path, limit: int) -> None:
    path = write_picture(tmp_path / "a.png")
    with pytest.raises(UsageError, match="limit"):
        open_source([str(path)], limit=limit)


def test_a_video_that_ends_early_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The header is made to promise more than the file holds, as a recording cut short does.
    path = write_video(tmp_path / "film.mp4")
    promised = VideoFacts(frames=50, fps=10.0, size_wh=(64, 48))
    monkeypatch.setattr("jetlift.runtime.video.probe_video", lambda _path: promised)
    with open_source([str(path)]) as source:
        assert len(list(source)) == 5
        assert source.skipped == [Skipped(str(path), "it ended after 5 of 50 frames")]


def test_leaving_early_closes_the_video(tmp_path: Path) -> None:
    with open_source([str(write_video(tmp_path / "film.mp4"))]) as source:
        frames = iter(source)
        next(frames)
    with pytest.raises(StopIteration):
        next(frames)
    source.close()


class _Camera:
    """Stands for the camera that a test machine lacks."""

    def __init__(self, name: str, **_options: object) -> None:
        self.name, self.closed = name, False
        _Camera.opened = self

    opened: _Camera

    def frames(self) -> Iterator[Frame]:
        for number in range(100):
            yield Frame(self.name, number, number / 10, picture(number))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def _camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jetlift.runtime.streams.opening.camera_source", _Camera)


@pytest.mark.usefixtures("_camera")
def test_a_camera_runs_until_the_limit_and_is_given_back() -> None:
    with open_source(["/dev/video0"], limit=4) as source:
        assert source.count == 4
        frames = list(source)
        assert not _Camera.opened.closed
    assert _Camera.opened.closed
    assert [(f.source, f.index, f.time_s) for f in frames] == [
        ("/dev/video0", number, number / 10) for number in range(4)
    ]


@pytest.mark.usefixtures("_camera")
def test_a_camera_is_given_back_where_a_later_input_is_refused() -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_source(["/dev/video0", "/nowhere/at/all.png"])
    assert _Camera.opened.closed


@pytest.mark.usefixtures("_camera")
def test_the_length_of_a_camera_is_not_known() -> None:
    with open_source(["/dev/video0"]) as source:
        assert source.count is None


def test_a_frame_is_found_again(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 9)
    write_video(tmp_path / "film.mp4")
    with open_source([str(tmp_path / "*")]) as source:
        for frame in source:
            again = frame_at(frame.source, frame.index)
            np.testing.assert_array_equal(again, frame.image_bgr)
    with pytest.raises(InputError, match="cannot be read"):
        frame_at(str(tmp_path / "gone.png"), 0)


def test_real_photographs_are_read_whole(photographs: Path) -> None:
    with open_source([str(photographs)], limit=12) as source:
        frames = list(source)
    assert len(frames) == 12
    assert source.skipped == []
    assert [frame.source for frame in frames] == sorted(frame.source for frame in frames)
