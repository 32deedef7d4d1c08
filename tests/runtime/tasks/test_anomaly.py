from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from helpers.textures import spoilt, texture

from jetlift.runtime.errors import ArtefactError, EngineLibraryError, InputError, UsageError
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.sources import Frame, TextItem, open_source
from jetlift.runtime.tasks import anomaly_fit, open_task
from jetlift.runtime.tasks.anomaly import AnomalyModel

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Task


def fit(bundle: Bundle, session: Session, folder: Path | str, **more: Any) -> AnomalyModel:
    with open_source([str(folder)]) as source:
        return anomaly_fit.fit(
            bundle, session, source, precision="fp32", target="cpu-onnxruntime", **more
        )


def frame(image: np.ndarray, name: str = "part.png") -> Frame:
    return Frame(name, 0, 0.0, image)


@pytest.fixture(scope="module")
def model(bundle: Bundle, session: Session, good_folder: Path) -> AnomalyModel:
    return fit(bundle, session, good_folder)


@pytest.fixture
def task(bundle: Bundle, session: Session, model: AnomalyModel) -> Task:
    return open_task("anomaly", bundle, session, precision="fp32", fit=model)


@pytest.mark.parametrize("at_xy", [(20, 20), (36, 30), (50, 44)])
def test_a_defect_scores_above_the_threshold_and_is_found(
    task: Task, at_xy: tuple[int, int]
) -> None:
    result = task.run(frame(spoilt(texture(100), at_xy)))
    assert result["anomalous"]
    assert result["score"] >= result["threshold"]
    x, y = result["peak_xy"]
    assert np.hypot(x - at_xy[0], y - at_xy[1]) < 12  # a patch of the tiny model is 15 pixels wide


def test_good_pictures_stay_below(task: Task) -> None:
    scores = [task.run(frame(texture(seed)))["score"] for seed in range(100, 110)]
    worst = task.run(frame(spoilt(texture(100), (36, 30))))["score"]
    assert max(scores) < worst
    assert not any(task.run(frame(texture(seed)))["anomalous"] for seed in range(100, 110))


def test_the_result_is_plain_json(task: Task) -> None:
    result = task.run(frame(texture(100)))
    assert json.loads(json.dumps(result)) == result
    assert list(result) == [
        "source",
        "index",
        "time_s",
        "score",
        "threshold",
        "anomalous",
        "peak_xy",
        "seen_xyxy",
    ]
    # 72 x 60 becomes 43 x 36; the middle 32 x 32 of it is seen.
    assert result["seen_xyxy"] == pytest.approx([8.4, 3.3, 62.0, 56.7])


def test_the_drawing_shows_the_defect(task: Task) -> None:
    item = frame(spoilt(texture(100), (36, 30)))
    good = frame(texture(100))
    drawn, plain = (task.draw(each, task.process(each)) for each in (item, good))
    assert drawn is not None
    assert plain is not None
    assert drawn.shape == plain.shape
    assert drawn.dtype == np.uint8
    centre = (slice(30 + 6 * 24, 30 + 6 * 36), slice(6 * 30, 6 * 42))  # enlarged six times
    assert np.abs(drawn[centre].astype(int) - plain[centre]).mean() > 20


def test_a_model_written_and_read_is_the_same(
    bundle: Bundle, session: Session, model: AnomalyModel, tmp_path: Path
) -> None:
    model.save(tmp_path / "fit")
    read = AnomalyModel.load(tmp_path / "fit")
    assert replace(read.head, arrays_sha256={}) == model.head
    item = frame(spoilt(texture(7), (30, 30)))
    results = [
        open_task("anomaly", bundle, session, precision="fp32", fit=given).run(item)
        for given in (model, read, tmp_path / "fit")
    ]
    assert results[0] == results[1] == results[2]
    AnomalyModel.load(tmp_path / "fit").save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "fit").read_bytes()


def test_the_head_says_what_it_rests_on(bundle: Bundle, model: AnomalyModel) -> None:
    head = model.head
    assert (head.pictures, head.skipped, head.seed) == (24, 0, 0)
    assert head.stamp.bundle_sha256 == bundle.sha256
    assert (head.stamp.part, head.stamp.precision) == ("image", "fp32")
    assert head.threshold.held_out
    assert "24 scores, cross-validated in 5 folds" in head.threshold.rule
    expected = head.threshold.score_mean + 3 * head.threshold.score_std
    assert head.threshold.value == pytest.approx(expected)
    assert any("seen_xyxy" in note for note in head.notes)


def test_fitting_is_repeatable_and_the_seed_counts(
    bundle: Bundle, session: Session, good_folder: Path
) -> None:
    first, second = (fit(bundle, session, good_folder, dims=4) for _ in range(2))
    np.testing.assert_array_equal(first.judge.gaussians.whitening, second.judge.gaussians.whitening)
    assert first.head == second.head
    chosen = {tuple(fit(bundle, session, good_folder, dims=4, seed=n).judge.dims) for n in range(4)}
    assert len(chosen) > 1
    assert first.judge.gaussians.mean.shape == (16, 4)


def some_good(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), texture(number))
    return folder


@pytest.mark.parametrize(
    ("count", "says"),
    [(2, "expect false alarms"), (3, "rests on 3 pictures"), (7, "rests on 7 pictures")],
)
def test_few_pictures_fit_and_the_notes_say_so(
    bundle: Bundle,
    session: Session,
    tmp_path: Path,
    count: int,
    says: str,
) -> None:
    head = fit(bundle, session, some_good(tmp_path / "good", count)).head
    assert head.threshold.held_out is (count > 2)
    assert any(says in note for note in head.notes)
    assert any(f"{count} good pictures are not enough for 8 dim" in note for note in head.notes)


def test_one_picture_is_refused(bundle: Bundle, session: Session, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Got 1 good pictures"):
        fit(bundle, session, some_good(tmp_path / "good", 1))


def test_unreadable_good_pictures_are_counted(
    bundle: Bundle, session: Session, tmp_path: Path
) -> None:
    folder = some_good(tmp_path / "good", 4)
    (folder / "broken.png").write_bytes(b"no picture")
    head = fit(bundle, session, folder).head
    assert (head.pictures, head.skipped) == (4, 1)


def test_progress_counts_pictures(bundle: Bundle, session: Session, tmp_path: Path) -> None:
    done: list[int] = []
    fit(bundle, session, some_good(tmp_path / "good", 4), progress=done.append)
    assert done == [1, 2, 3, 4]


def test_no_dimension_is_refused(bundle: Bundle, session: Session, good_folder: Path) -> None:
    with pytest.raises(UsageError, match="0 feature dimensions"):
        fit(bundle, session, good_folder, dims=0)


def test_texts_have_no_anomalies(task: Task) -> None:
    with pytest.raises(UsageError, match="pictures"):
        task.run(TextItem("a.txt", 0, "hello"))


def test_an_engine_that_returns_nan_gives_no_result(bundle: Bundle, model: AnomalyModel) -> None:
    part = bundle.part("image")[1]
    broken = FakeSession(
        part.inputs,
        part.outputs,
        lambda _: {
            "embedding": np.zeros((1, 8), np.float32),
            "patch_tokens": np.full((1, 16, 8), np.nan, np.float32),
        },
    )
    task = open_task("anomaly", bundle, broken, precision="fp32", fit=model)
    with pytest.raises(EngineLibraryError, match="patch_tokens holds NaN or infinity"):
        task.run(frame(texture(0)))


def test_arrays_that_do_not_fit_together_are_refused(model: AnomalyModel, tmp_path: Path) -> None:
    cut = replace(model, judge=replace(model.judge, dims=model.judge.dims[:-1]))
    cut.save(tmp_path / "fit")
    with pytest.raises(ArtefactError, match="do not fit together"):
        AnomalyModel.load(tmp_path / "fit")


@pytest.fixture(scope="module")
def remembering(bundle: Bundle, session: Session, good_folder: Path) -> AnomalyModel:
    return fit(bundle, session, good_folder, method="patchcore")


def test_patchcore_gives_the_same_fields_and_finds_the_defect(
    bundle: Bundle, session: Session, task: Task, remembering: AnomalyModel
) -> None:
    other = open_task("anomaly", bundle, session, precision="fp32", fit=remembering)
    item = frame(spoilt(texture(100), (36, 30)))
    result = other.run(item)
    assert list(result) == list(task.run(item))
    assert result["anomalous"]
    assert np.hypot(result["peak_xy"][0] - 36, result["peak_xy"][1] - 30) < 12
    assert not any(other.run(frame(texture(seed)))["anomalous"] for seed in range(100, 110))
    drawn = other.draw(item, other.process(item))
    assert drawn is not None
    assert drawn.dtype == np.uint8


def test_patchcore_written_and_read_is_the_same(
    bundle: Bundle, session: Session, remembering: AnomalyModel, tmp_path: Path
) -> None:
    remembering.save(tmp_path / "fit")
    read = AnomalyModel.load(tmp_path / "fit")
    assert replace(read.head, arrays_sha256={}) == remembering.head
    assert (read.head.method, read.head.shrinkage_mean) == ("patchcore", 0.0)
    assert read.head.map_mark is not None
    assert read.head.map_mark.mark > read.head.map_mark.low
    item = frame(spoilt(texture(7), (30, 30)))
    results = [
        open_task("anomaly", bundle, session, precision="fp32", fit=given).run(item)
        for given in (remembering, tmp_path / "fit")
    ]
    assert results[0] == results[1]
    with pytest.raises(ArtefactError, match="was made with image at fp32"):
        open_task("anomaly", bundle, session, precision="int8", fit=read)


def test_arrays_of_the_other_method_are_refused(
    model: AnomalyModel, remembering: AnomalyModel, tmp_path: Path
) -> None:
    replace(model, judge=remembering.judge).save(tmp_path / "fit")
    with pytest.raises(ArtefactError, match="do not fit together"):
        AnomalyModel.load(tmp_path / "fit")


def test_patchcore_holds_pictures_out_too(remembering: AnomalyModel) -> None:
    threshold = remembering.head.threshold
    assert threshold.held_out
    assert 0 < threshold.score_mean < threshold.score_max
    assert "24 scores, cross-validated in 5 folds" in threshold.rule


def test_more_pictures_than_memory_takes_are_refused(
    bundle: Bundle, session: Session, good_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anomaly_fit, "MOST_BYTES", 5 * 16 * 8 * 4)  # five of the tiny model's
    with pytest.raises(InputError, match="more good pictures than 5"):
        fit(bundle, session, good_folder)


def test_a_model_of_an_earlier_version_is_padims(model: AnomalyModel, tmp_path: Path) -> None:
    model.save(tmp_path / "fit")
    with np.load(tmp_path / "fit") as content:
        head = json.loads(content["head"].tobytes())
    assert "method" not in head
    assert "map_mark" not in head
    assert AnomalyModel.load(tmp_path / "fit").head.method == "padim"
