"""Arrays and pictures of live runs."""

from __future__ import annotations

import resource
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from helpers.outlet_results import result

from jetlift.runtime.errors import StorageError, UsageError
from jetlift.runtime.outlets.files import PicturesSink, arrays_sink
from jetlift.runtime.outlets.parts import Rotation
from jetlift.runtime.tasks.base import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.pipeline.form import Result


def tree(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in files)


def with_arrays(index: int, width: int = 4) -> Result:
    base = result(index)
    return replace(base, outcome=Outcome(base.outcome.fields, {"embedding": np.full(width, index)}))


def fed(sink: PicturesSink, count: int, **options: object) -> list[int]:
    """Write results as a pipeline does, drawn where the sink wants it; the indices drawn."""
    drawn = []
    for index in range(count):
        if sink.wants_pictures:
            drawn.append(index)
        sink.write(result(index, drawn=sink.wants_pictures, **options))  # type: ignore[arg-type]
    return drawn


def test_arrays_of_a_run(tmp_path: Path) -> None:
    with arrays_sink(tmp_path / "e.npz") as sink:
        for index in range(5):
            sink.write(with_arrays(index))
        sink.write(with_arrays(5, width=7))  # another shape begins another file
    assert tree(tmp_path) == ["e-000002.npz", "e.npz"]
    with np.load(tmp_path / "e.npz") as loaded:
        np.testing.assert_array_equal(loaded["embedding"][:, 0], range(5))
        np.testing.assert_allclose(loaded["time_s"], np.arange(5) / 25)
    assert sink.health().written == 6


def test_arrays_in_parts_of_a_size(tmp_path: Path) -> None:
    with arrays_sink(tmp_path / "e.npz", rotation=Rotation(part_bytes=100)) as sink:
        for index in range(8):
            sink.write(with_arrays(index))
    rows = []
    for name in tree(tmp_path):
        with np.load(tmp_path / name) as loaded:
            rows += list(loaded["index"])
    assert rows == list(range(8))
    assert tree(tmp_path) == ["e-000001.npz", "e-000002.npz"]


def test_a_task_without_arrays_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no arrays"), arrays_sink(tmp_path / "e.npz") as sink:
        sink.write(result(0, text="a"))
    assert tree(tmp_path) == []


def test_every_nth_picture_of_a_live_source_is_drawn_and_kept(tmp_path: Path) -> None:
    with PicturesSink(tmp_path / "p", label="detect", every=10) as sink:
        assert fed(sink, 25) == [0, 10, 20]
    assert tree(tmp_path / "p") == [
        f"000001/video0_{index:06d}.detect.jpg" for index in (0, 10, 20)
    ]
    picture = cv2.imread(str(tmp_path / "p" / "000001" / "video0_000010.detect.jpg"))
    assert abs(int(picture[0, 0, 0]) - 60) <= 2
    assert sink.health().written == 25


def test_pictures_that_come_late_from_a_pipeline_are_taken_when_they_come(tmp_path: Path) -> None:
    with PicturesSink(tmp_path, every=3) as sink:
        for index in range(12):  # drawing was decided two results earlier than writing
            sink.write(result(index, drawn=index % 3 == 2 or index == 0))
    assert tree(tmp_path) == [f"000001/video0_{index:06d}.result.jpg" for index in (0, 5, 8, 11)]


def test_folders_of_live_pictures_stay_small_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jetlift.runtime.outlets.files.PER_FOLDER", 4)
    for _ in range(2):
        with PicturesSink(tmp_path) as sink:
            fed(sink, 6)
    assert [name[:6] for name in tree(tmp_path)] == ["000001"] * 4 + ["000002"] * 2 + (
        ["000003"] * 4 + ["000004"] * 2
    )


def test_the_oldest_pictures_go_so_that_all_stay_below_the_limit(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x" * 100_000)
    with PicturesSink(tmp_path, keep_bytes=20_000) as sink:
        fed(sink, 150)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.jpg")]
    assert 10_000 < sum(sizes) < 20_000 + max(sizes)
    assert sink.removed > 3
    assert tree(tmp_path)[-2].endswith("video0_000149.result.jpg")
    assert "notes.txt" in tree(tmp_path)


def test_pictures_of_files_lie_in_the_one_folder(tmp_path: Path) -> None:
    with PicturesSink(tmp_path / "p", label="detect", suffix=".png") as sink:
        for source in ("a/x.jpg", "b/x.jpg"):
            sink.write(result(0, source=source, live=False, drawn=True))
    assert tree(tmp_path / "p") == ["x-2.detect.png", "x.detect.png"]


def test_pictures_that_the_task_made_are_kept_beside(tmp_path: Path) -> None:
    base = result(0, live=False, source="prompts.txt")
    made = {"image": np.zeros((4, 4, 3), np.uint8), "step-05": np.ones((4, 4, 3), np.uint8)}
    with PicturesSink(tmp_path, suffix=".png") as sink:
        sink.write(replace(base, outcome=replace(base.outcome, images=made)))
    assert tree(tmp_path) == ["prompts_000000.image.png", "prompts_000000.step-05.png"]


def test_a_task_that_draws_nothing_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="draws no pictures"), PicturesSink(tmp_path) as sink:
        sink.write(result(0))


def test_a_full_disk_is_told_with_the_name_of_the_sink(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(StorageError, match="Sink pictures: Writing"):  # noqa: SIM117
            with PicturesSink(tmp_path, suffix=".png") as sink:
                noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
                sink.write(replace(result(0), drawn_bgr=noise))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert tree(tmp_path) == []


@pytest.mark.parametrize("options", [{"every": 0}, {"suffix": ".gif"}])
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PicturesSink(tmp_path, **options)  # type: ignore[arg-type]
