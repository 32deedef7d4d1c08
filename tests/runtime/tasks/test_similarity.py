"""Pairs of texts on a real graph."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.words_bundle import words_bundle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jetlift.runtime.errors import EngineLibraryError, InputError, UsageError
from jetlift.runtime.session import open_session
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks.encoder import Encoder
from jetlift.runtime.tasks.similarity import SimilarityTask, cosine
from jetlift.runtime.texts import TextItem


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return words_bundle(tmp_path_factory.mktemp("words") / "bundle")


@pytest.fixture(scope="module")
def task(bundle):
    with open_session(bundle, "text", "fp32", target="cpu-onnxruntime", threads=1) as session:
        yield SimilarityTask(Encoder(bundle, session, "text"))


def test_a_pair_has_the_cosine_of_its_embeddings(bundle, task):
    fields = task.run(TextItem("pairs.txt", 3, " a dog\tthe cat "))
    with open_session(bundle, "text", "fp32", target="cpu-onnxruntime", threads=1) as session:
        encoder = Encoder(bundle, session, "text")
        first, second = (
            encoder.encode(TextItem("t", 0, text)).embedding for text in ("a dog", "the cat")
        )
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    assert fields["similarity"] == pytest.approx(float(first @ second / lengths), abs=2e-6)
    assert (fields["first"], fields["second"]) == ("a dog", "the cat")
    assert (fields["source"], fields["index"]) == ("pairs.txt", 3)
    assert fields["truncated"] == [False, False]
    assert len(fields["tokens"]) == 2


def test_equal_texts_have_1(task):
    assert task.run(TextItem("t", 0, "a dog\ta dog"))["similarity"] == 1.0


@pytest.mark.parametrize("line", ["one text", "a\tb\tc", "a\t", "\tb"])
def test_a_line_that_is_no_pair_is_told(task, line):
    with pytest.raises(InputError, match=r"Line 5 of t has .* texts between tabs"):
        task.run(TextItem("t", 4, line))


def test_pictures_are_refused(bundle, task):
    with pytest.raises(UsageError, match="got no text"):
        task.run(Frame("p", 0, None, np.zeros((4, 4, 3), np.uint8)))
    with (
        open_session(bundle, "image", "fp32", target="cpu-onnxruntime", threads=1) as session,
        pytest.raises(UsageError, match="takes pictures"),
    ):
        SimilarityTask(Encoder(bundle, session, "image"))


VECTORS = arrays(np.float32, 5, elements=st.floats(-10, 10, width=32)).filter(
    lambda vector: float(np.linalg.norm(vector)) > 1e-3
)


@given(VECTORS, VECTORS)
def test_a_cosine_is_one_and_does_not_know_lengths(first, second):
    assert cosine(first, first) == 1.0
    assert -1.0 <= cosine(first, second) <= 1.0
    assert cosine(first, second) == cosine(second, first)
    assert cosine(first * 3, second) == pytest.approx(cosine(first, second), abs=2e-6)


def test_no_direction_no_cosine():
    with pytest.raises(EngineLibraryError, match="zero throughout"):
        cosine(np.zeros(3), np.ones(3))
