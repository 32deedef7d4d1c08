from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from jetlift.runtime.errors import StorageError, UsageError
from jetlift.runtime.sinks import JsonlSink, NpzSink, PictureSink, VideoSink
from jetlift.runtime.video import probe_video, video_frames

if TYPE_CHECKING:
    from collections.abc import Iterator


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def no_file_over_64_kib() -> Iterator[None]:
    """The system refuses to let any file of this process grow past 64 KiB, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# JSON lines


def test_lines_are_written_live_and_take_their_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out" / "results.jsonl"
    with JsonlSink(path) as sink:
        sink.write({"source": "Grüße.png", "score": 0.25})
        live = (tmp_path / "out" / "results.jsonl.partial").read_text(encoding="utf-8")
        assert live == '{"source": "Grüße.png", "score": 0.25}\n'
        assert not path.exists()
        sink.write({"source": "b", "score": None})
    assert names(tmp_path / "out") == ["results.jsonl"]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["source"] for line in lines] == ["Grüße.png", "b"]


def test_a_failed_run_leaves_its_lines_under_the_partial_name(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("an earlier run\n")
    with pytest.raises(KeyboardInterrupt), JsonlSink(path) as sink:
        sink.write({"index": 0})
        raise KeyboardInterrupt
    assert path.read_text() == "an earlier run\n"
    assert (tmp_path / "results.jsonl.partial").read_text() == '{"index": 0}\n'
    with JsonlSink(path) as sink:
        sink.write({"index": 1})
    assert names(tmp_path) == ["results.jsonl"]
    assert path.read_text() == '{"index": 1}\n'


def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from jetlift.runtime.sinks import JsonlSink\n"
        "with JsonlSink(sys.argv[1]) as sink:\n"
        "    for index in range(50): sink.write({'index': index})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "r.jsonl")],
        check=False,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )
    assert done.returncode == -signal.SIGKILL
    assert names(tmp_path) == ["r.jsonl.partial"]
    lines = (tmp_path / "r.jsonl.partial").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(50))


def test_numbers_that_are_not_finite_are_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"), JsonlSink(tmp_path / "r.jsonl") as sink:
        sink.write({"score": float("nan")})


def test_a_closed_sink_takes_no_line(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "r.jsonl")
    with pytest.raises(UsageError, match="closed sink"):
        sink.write({})
    with sink:
        pass
    with pytest.raises(UsageError, match="closed sink"):
        sink.write({})


@pytest.mark.usefixtures("no_file_over_64_kib")
def test_a_full_disk_under_json_lines_says_where_they_are(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"r\.jsonl\.partial failed: File too large") as caught,
        JsonlSink(tmp_path / "r.jsonl") as sink,
    ):
        for index in range(10_000):
            sink.write({"index": index, "text": "x" * 80})
    assert caught.value.exit_code == 4
    whole = (tmp_path / "r.jsonl.partial").read_text().split("\n")[:-1]
    assert [json.loads(line)["index"] for line in whole] == list(range(len(whole)))
    assert len(whole) > 500


def test_a_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match="file cannot be made"),
        JsonlSink(tmp_path / "file" / "r"),
    ):
        pass


def test_half_characters_of_a_file_name_come_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"Gr\xfc\xdfe.png")  # not UTF-8
    with JsonlSink(tmp_path / "r.jsonl") as sink:
        sink.write({"source": name})
    assert json.loads((tmp_path / "r.jsonl").read_text(encoding="utf-8")) == {"source": name}
    assert sink.size_bytes == (tmp_path / "r.jsonl").stat().st_size


# arrays


def test_rows_come_back_as_arrays(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        {
            "embedding": random.standard_normal(8).astype(np.float32),
            "patch_tokens": random.standard_normal((4, 8)).astype(np.float32)[:, ::-1],
        }
        for _ in range(5)
    ]
    with NpzSink(tmp_path / "e.npz") as sink:
        for index, row in enumerate(rows):
            sink.write(f"Bild {index}.png", index, None if index == 4 else index / 10, row)
        assert not (tmp_path / "e.npz").exists()
    with np.load(tmp_path / "e.npz", allow_pickle=False) as loaded:
        for name in ("embedding", "patch_tokens"):
            np.testing.assert_array_equal(loaded[name], np.stack([row[name] for row in rows]))
            assert loaded[name].dtype == np.float32
        assert loaded["source"].tolist() == [f"Bild {index}.png" for index in range(5)]
        assert loaded["index"].tolist() == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(loaded["time_s"], [0, 0.1, 0.2, 0.3, np.nan])
    assert names(tmp_path) == ["e.npz"]


def test_no_rows_make_a_file_that_says_so(tmp_path: Path) -> None:
    with NpzSink(tmp_path / "e.npz"):
        pass
    with np.load(tmp_path / "e.npz", allow_pickle=False) as loaded:
        assert {name: len(loaded[name]) for name in loaded.files} == {
            "source": 0,
            "index": 0,
            "time_s": 0,
        }


@pytest.mark.parametrize(
    "second",
    [
        {"a": np.zeros(4, np.float32)},
        {"a": np.zeros(3, np.float64)},
        {"b": np.zeros(3, np.float32)},
        {},
    ],
)
def test_rows_of_another_form_are_refused_and_nothing_is_left(
    tmp_path: Path, second: dict[str, np.ndarray]
) -> None:
    with (
        pytest.raises(UsageError, match="as the first"),
        NpzSink(tmp_path / "e.npz") as sink,
    ):
        sink.write("a", 0, 0.0, {"a": np.zeros(3, np.float32)})
        sink.write("b", 0, 0.0, second)
    assert names(tmp_path) == []


@pytest.mark.usefixtures("no_file_over_64_kib")
def test_a_full_disk_under_arrays_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"e\.npz failed: File too large"),
        NpzSink(tmp_path / "e.npz") as sink,
    ):
        for index in range(100):
            sink.write("a", index, 0.0, {"a": np.zeros(1000, np.float64)})
    assert names(tmp_path) == []


# pictures


def drawn(level: int = 90, size_wh: tuple[int, int] = (40, 30)) -> np.ndarray:
    image = np.full((size_wh[1], size_wh[0], 3), level, np.uint8)
    cv2.circle(image, (size_wh[0] // 2, size_wh[1] // 2), 8, (0, 80, 240), -1)
    return image


def test_pictures_are_named_after_their_inputs(tmp_path: Path) -> None:
    sink = PictureSink(tmp_path / "out", label="anomaly")
    assert sink.write("/data/part.png", 0, drawn()).name == "part.anomaly.png"
    assert sink.write("/data/film.mp4", 12, drawn()).name == "film_000012.anomaly.png"
    assert sink.write("/dev/video0", 3, drawn()).name == "video0_000003.anomaly.png"
    image = cv2.imread(str(tmp_path / "out" / "part.anomaly.png"))
    np.testing.assert_array_equal(image, drawn())


def test_inputs_with_one_stem_never_share_a_name(tmp_path: Path) -> None:
    sink = PictureSink(tmp_path, label="x", suffix=".jpg")
    sources = ["a/p.png", "b/p.png", "b/p.jpg", "c/P.png", "p-2.png", "a/p.png"]
    written = [sink.write(source, 0, drawn()) for source in sources]
    assert [path.name for path in written] == [
        "p.x.jpg",
        "p-2.x.jpg",
        "p-3.x.jpg",
        "P-4.x.jpg",
        "p-2-2.x.jpg",
        "p-5.x.jpg",
    ]
    assert len(names(tmp_path)) == len(sources)


def test_pictures_are_never_written_among_the_inputs(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), drawn())
    cv2.imwrite(str(tmp_path / "a.x.png"), drawn())
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link"):
        with pytest.raises(UsageError, match="no input is ever replaced"):
            PictureSink(folder, label="x").write(str(tmp_path / "a.png"), 0, drawn(1))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.x.png")), drawn())


def test_pictures_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    for level in (10, 200):
        PictureSink(tmp_path, label="x").write("a.png", 0, drawn(level))
    assert names(tmp_path) == ["a.x.png"]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.x.png")), drawn(200))


@pytest.mark.usefixtures("no_file_over_64_kib")
def test_a_full_disk_under_pictures_leaves_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    with pytest.raises(StorageError, match="File too large"):
        PictureSink(tmp_path, label="x").write("a.png", 0, noise)
    assert names(tmp_path) == []


# video


def test_a_video_comes_back_frame_by_frame(tmp_path: Path) -> None:
    path = tmp_path / "out" / "film.mp4"
    with VideoSink(path, fps=12.5) as sink:
        for number in range(8):
            sink.write(np.full((48, 64, 3), 30 * number, np.uint8))
        assert not path.exists()
    assert names(path.parent) == ["film.mp4"]
    facts = probe_video(path)
    assert (facts.frames, facts.fps, facts.size_wh) == (8, 12.5, (64, 48))
    levels = [round(float(image.mean()) / 30) for _, image in video_frames(path)]
    assert levels == list(range(8))


def test_an_odd_side_grows_by_one(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "film.mp4", fps=10) as sink:
        sink.write(drawn(90, (63, 47)))
    assert probe_video(tmp_path / "film.mp4").size_wh == (64, 48)


def test_an_existing_video_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), VideoSink(path, fps=10) as sink:
        sink.write(drawn())
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["film.mp4"]
    with VideoSink(path, fps=10) as sink:
        sink.write(drawn())
    assert probe_video(path).frames == 1


def test_frames_of_another_size_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="one size"),
        VideoSink(tmp_path / "film.mp4", fps=10) as sink,
    ):
        sink.write(drawn(90, (64, 48)))
        sink.write(drawn(90, (48, 64)))
    assert names(tmp_path) == []


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No frame"), VideoSink(tmp_path / "film.mp4", fps=10):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize(("name", "fps"), [("film.avi", 10), ("film.mp4", 0), ("film.mp4", -1)])
def test_a_video_that_cannot_be_is_refused(tmp_path: Path, name: str, fps: float) -> None:
    with pytest.raises(UsageError, match="Got the video"):
        VideoSink(tmp_path / name, fps=fps)


@pytest.mark.usefixtures("no_file_over_64_kib")
def test_a_full_disk_under_a_video_is_noticed_and_leaves_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with (
        pytest.raises(StorageError, match=r"frames arrived in .*film\.mp4"),
        VideoSink(tmp_path / "film.mp4", fps=10) as sink,
    ):
        for _ in range(40):
            sink.write(random.integers(0, 256, (240, 320, 3), np.uint8))
    assert names(tmp_path) == []
