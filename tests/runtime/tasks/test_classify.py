from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from helpers.textures import texture
from helpers.words_bundle import FACTS, classes_bundle, words_bundle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jetlift.runtime.errors import (
    ArtefactError,
    EngineLibraryError,
    InputError,
    UnknownNameError,
    UsageError,
)
from jetlift.runtime.prompts import Prompts, build_prompts
from jetlift.runtime.session import open_session
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.sources import Frame, TextItem, open_source
from jetlift.runtime.tasks import open_task
from jetlift.runtime.tasks.classify import sigmoid, softmax

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")

TARGET = "cpu-onnxruntime"
FRAME = Frame("film.mp4", 3, 0.3, texture(0))
WORDS = ("dog", "cat", "red bus", "tree")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return words_bundle(tmp_path_factory.mktemp("words") / "bundle")


@pytest.fixture(scope="module")
def pictures(words: Bundle) -> Iterator[Session]:
    with open_session(words, "image", "fp32", target=TARGET, threads=1) as session:
        yield session


def prompts_of(bundle: Bundle, *prompts: str) -> Prompts:
    with open_session(bundle, "text", "fp32", target=TARGET, threads=1) as session:
        return build_prompts(bundle, session, prompts, precision="fp32", target=TARGET)


@pytest.fixture(scope="module")
def prompts(words: Bundle) -> Prompts:
    return prompts_of(words, *WORDS)


def raw_scores(bundle: Bundle, session: Session, prompts: Prompts) -> np.ndarray:
    embed = open_task("embed", bundle, session, precision="fp32", part="image")
    vector = embed.process(FRAME).arrays["embedding"].astype(np.float64)
    return 14.0 * prompts.features.astype(np.float64) @ (vector / np.linalg.norm(vector))


def test_scores_share_a_whole_and_the_best_comes_first(
    words: Bundle, pictures: Session, prompts: Prompts
) -> None:
    task = open_task("classify", words, pictures, precision="fp32", prompts=prompts, count=3)
    outcome = task.process(FRAME)
    raw = raw_scores(words, pictures, prompts)
    expected = np.exp(raw) / np.exp(raw).sum()
    np.testing.assert_allclose(outcome.arrays["scores"], expected, rtol=1e-5)
    order = np.argsort(-expected)[:3]
    fields = json.loads(json.dumps(outcome.fields))
    assert list(fields) == ["source", "index", "time_s", "labels", "scores"]
    assert fields["labels"] == [WORDS[row] for row in order]
    np.testing.assert_allclose(fields["scores"], expected[order], rtol=1e-5)


def test_each_word_is_judged_by_itself_where_the_model_was_trained_so(tmp_path: Path) -> None:
    facts = replace(FACTS, scores="sigmoid", logit_bias=-3.0)
    bundle = words_bundle(tmp_path / "sigmoid", facts=facts)
    prompts = prompts_of(bundle, "dog", "cat")
    with open_session(bundle, "image", "fp32", target=TARGET, threads=1) as session:
        task = open_task("classify", bundle, session, precision="fp32", prompts=prompts)
        scores = task.process(FRAME).arrays["scores"]
        raw = raw_scores(bundle, session, prompts) - 3.0
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-raw)), rtol=1e-5)


def test_prompts_come_from_a_file_too(
    words: Bundle, pictures: Session, prompts: Prompts, tmp_path: Path
) -> None:
    path = tmp_path / "p.prompts"
    prompts.save(path)
    opened = open_task("classify", words, pictures, precision="fp32", prompts=path)
    held = open_task("classify", words, pictures, precision="fp32", prompts=prompts)
    assert opened.run(FRAME) == held.run(FRAME)


def test_labels_are_ranked_where_float32_scores_are_all_zero(tmp_path: Path) -> None:
    bundle = words_bundle(tmp_path / "sharp", facts=replace(FACTS, logit_scale=2000.0))
    held = prompts_of(bundle, *WORDS)
    with open_session(bundle, "image", "fp32", target=TARGET, threads=1) as session:
        fields = open_task("classify", bundle, session, precision="fp32", prompts=held).run(FRAME)
        raw = raw_scores(bundle, session, held)
    assert fields["scores"][-1] == 0.0
    assert fields["labels"] == [WORDS[row] for row in np.argsort(-raw)]


def test_the_order_of_prompts_changes_no_score(
    words: Bundle, pictures: Session, prompts: Prompts
) -> None:
    def scores(held: Prompts) -> dict[str, float]:
        task = open_task("classify", words, pictures, precision="fp32", prompts=held, count=9)
        fields = task.run(FRAME)
        return dict(zip(fields["labels"], fields["scores"], strict=True))

    turned = prompts_of(words, *WORDS[::-1])
    assert scores(turned) == pytest.approx(scores(prompts), rel=1e-5)


def test_the_picture_is_shown_with_its_labels(
    words: Bundle, pictures: Session, prompts: Prompts
) -> None:
    task = open_task("classify", words, pictures, precision="fp32", prompts=prompts, count=2)
    outcome = task.process(FRAME)
    two = task.draw(FRAME, outcome)
    assert two is not None
    four = open_task("classify", words, pictures, precision="fp32", prompts=prompts)
    drawn = four.draw(FRAME, four.process(FRAME))
    assert drawn is not None
    assert drawn.shape[0] - two.shape[0] == 2 * 20  # a line of text each


@pytest.mark.parametrize("size_wh", [(1, 1), (7680, 4320)])
def test_pictures_of_any_size(
    words: Bundle, pictures: Session, prompts: Prompts, tmp_path: Path, size_wh: tuple[int, int]
) -> None:
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), np.full((size_wh[1], size_wh[0], 3), (20, 90, 200), np.uint8))
    task = open_task("classify", words, pictures, precision="fp32", prompts=prompts)
    with open_source([str(path)]) as source:
        (outcome,) = [task.process(item) for item in source]
    assert outcome.arrays["scores"].sum() == pytest.approx(1, abs=1e-5)


def test_fixed_classes_are_the_models_own(tmp_path: Path) -> None:
    bundle = classes_bundle(tmp_path / "classes")
    with open_session(bundle, "image", "fp32", target=TARGET, threads=1) as session:
        task = open_task("classify", bundle, session, precision="fp32", count=1)
        outcome = task.process(FRAME)
        with pytest.raises(UsageError, match="its classes are fixed"):
            open_task("classify", bundle, session, precision="fp32", prompts="p.prompts")
    scores = outcome.arrays["scores"]
    assert scores.sum() == pytest.approx(1, abs=1e-5)
    assert outcome.fields["labels"] == [f"kind {int(scores.argmax())}"]


def test_labels_that_are_fewer_than_the_classes_are_refused(tmp_path: Path) -> None:
    bundle = classes_bundle(tmp_path / "classes", labels=7)
    with (
        open_session(bundle, "image", "fp32", target=TARGET, threads=1) as session,
        pytest.raises(ArtefactError, match="7 labels, the model 8 classes"),
    ):
        open_task("classify", bundle, session, precision="fp32")


def test_what_cannot_be_done_is_told(
    words: Bundle, pictures: Session, prompts: Prompts, tmp_path: Path
) -> None:
    def refused(kind: type[Exception], told: str, bundle: Bundle = words, **given: Any) -> None:
        with pytest.raises(kind, match=told):
            open_task("classify", bundle, pictures, precision="fp32", **given)

    refused(UsageError, "without its prompts")
    refused(UsageError, "count of 0", prompts=prompts, count=0)
    refused(InputError, "is no file", prompts=tmp_path / "none.prompts")
    other = words_bundle(tmp_path / "other", facts=replace(FACTS, logit_scale=1.0))
    refused(ArtefactError, "another bundle", other, prompts=prompts)
    plain = replace(words, manifest=replace(words.manifest, zero_shot=None))
    refused(UnknownNameError, "0 parts with fixed classes", plain)
    refused(UsageError, "Part text is no classifier", plain, part="text")


def test_words_are_not_pictures(words: Bundle, pictures: Session, prompts: Prompts) -> None:
    task = open_task("classify", words, pictures, precision="fp32", prompts=prompts)
    with pytest.raises(UsageError, match="found for pictures"):
        task.process(TextItem("a.txt", 0, "dog"))
    with (
        open_session(words, "text", "fp32", target=TARGET, threads=1) as session,
        pytest.raises(UsageError, match="A session of part image"),
    ):
        open_task("classify", words, session, precision="fp32", prompts=prompts)


def test_a_broken_engine_gives_no_label(tmp_path: Path) -> None:
    bundle = classes_bundle(tmp_path / "classes")
    part = bundle.part("image")[1]
    broken = {
        "embedding": np.full((1, 8), np.nan, np.float32),
        "patch_tokens": np.zeros((1, 16, 8), np.float32),
    }
    session = FakeSession(part.inputs, part.outputs, lambda _: broken)
    task = open_task("classify", bundle, session, precision="fp32")
    with pytest.raises(EngineLibraryError, match="NaN or infinity"):
        task.process(FRAME)
    wrong = FakeSession((), (), lambda _: broken)
    with pytest.raises(UsageError, match="not of part image"):
        open_task("classify", bundle, wrong, precision="fp32")


RAW = hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e4, 1e4))


@given(RAW, st.floats(-100, 100))
def test_shares_sum_to_one_and_ignore_a_shift(raw: np.ndarray, shift: float) -> None:
    shares = softmax(raw)
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()
    np.testing.assert_allclose(softmax(raw + shift), shares, atol=1e-9)
    assert shares[raw.argmax()] == shares.max()


@given(RAW)
def test_sigmoid_never_overflows_and_is_symmetric(raw: np.ndarray) -> None:
    with np.errstate(over="raise"):
        shares = sigmoid(raw)
    assert ((shares >= 0) & (shares <= 1)).all()
    np.testing.assert_allclose(shares + sigmoid(-raw), 1, atol=1e-12)
    near = np.abs(raw) < 30
    np.testing.assert_allclose(shares[near], 1 / (1 + np.exp(-raw[near])), rtol=1e-12)
