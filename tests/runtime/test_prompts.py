from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.words_bundle import FACTS, words_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import ArtefactError, BundleError, InputError, UsageError
from jetlift.runtime.prompts import (
    Prompts,
    build_prompts,
    clean_prompts,
    clean_templates,
    mean_of,
)
from jetlift.runtime.session import open_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jetlift.runtime.session.base import Session

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")

TARGET = "cpu-onnxruntime"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return words_bundle(tmp_path_factory.mktemp("words") / "bundle")


@pytest.fixture(scope="module")
def text(words: Bundle) -> Iterator[Session]:
    with open_session(words, "text", "fp32", target=TARGET, threads=1) as session:
        yield session


def made(words: Bundle, text: Session, *prompts: str, **options: object) -> Prompts:
    return build_prompts(words, text, prompts, precision="fp32", target=TARGET, **options)  # type: ignore[arg-type]


def features_by_hand(words: Bundle, text: Session, sentences: list[str]) -> np.ndarray:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(words.path("assets/tokenizer.json")))
    rows = []
    for sentence in sentences:
        ids = np.array([tokenizer.encode(sentence).ids])
        row = text.run({"input_ids": ids})["embedding"][0].astype(np.float64)
        rows.append(row / np.linalg.norm(row))
    mean = np.mean(rows, axis=0)
    return mean / np.linalg.norm(mean)


def test_a_prompt_goes_into_the_models_own_sentence(words: Bundle, text: Session) -> None:
    prompts = made(words, text, "dog", " big   cat ")
    assert prompts.head.prompts == ("dog", "big cat")
    assert prompts.head.templates == ("a {}.",)
    assert prompts.features.dtype == np.float32
    for row, word in zip(prompts.features, ("dog", "big cat"), strict=True):
        expected = features_by_hand(words, text, [f"a {word}."])
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_several_templates_are_averaged_at_length_one(words: Bundle, text: Session) -> None:
    templates = ["one {}", "{} at night", "{}"]
    prompts = made(words, text, "dog", "cat", templates=templates)
    assert prompts.head.templates == tuple(templates)
    for row, word in zip(prompts.features, ("dog", "cat"), strict=True):
        sentences = [template.replace("{}", word) for template in templates]
        np.testing.assert_allclose(row, features_by_hand(words, text, sentences), atol=1e-6)
    turned = made(words, text, "dog", "cat", templates=templates[::-1])
    np.testing.assert_array_equal(turned.features, prompts.features)


def test_braces_in_a_prompt_are_letters(words: Bundle, text: Session) -> None:
    prompts = made(words, text, "{}", "{a}")
    expected = features_by_hand(words, text, ["a {}."])
    np.testing.assert_allclose(prompts.features[0], expected, atol=1e-6)


def test_the_file_gives_back_what_was_computed(
    words: Bundle, text: Session, tmp_path: Path
) -> None:
    prompts = made(words, text, "dog", "Ärger 漢字")
    prompts.save(tmp_path / "p.prompts")
    read = Prompts.load(tmp_path / "p.prompts")
    np.testing.assert_array_equal(read.features, prompts.features)
    assert read.head.prompts == prompts.head.prompts
    assert read.head.stamp.part == "text"
    read.check_bundle(words)


def test_prompts_of_another_bundle_are_refused(
    words: Bundle, text: Session, tmp_path: Path
) -> None:
    other = words_bundle(tmp_path / "other", facts=replace(FACTS, logit_scale=15.0))
    with pytest.raises(ArtefactError, match="another bundle"):
        made(words, text, "dog", "cat").check_bundle(other)


def test_an_altered_or_foreign_file_is_refused(
    words: Bundle, text: Session, tmp_path: Path
) -> None:
    path = tmp_path / "p.prompts"
    with pytest.raises(InputError, match="is no file"):
        Prompts.load(path)
    path.write_bytes(b"dog, cat")
    with pytest.raises(ArtefactError, match="cannot be read"):
        Prompts.load(path)
    prompts = made(words, text, "dog", "cat")
    for features in (prompts.features[:1], prompts.features * 2, prompts.features[0]):
        Prompts(prompts.head, features).save(path)
        with pytest.raises(ArtefactError, match="features"):
            Prompts.load(path)


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ((), "Got no prompt"),
        (("dog", ""), "blank prompt ''"),
        (("dog", " \t\n"), "blank prompt"),
        (("dog", "cat", " dog "), "'dog' comes twice"),
        (("dog", "DOG"), "the same to the model"),
        (("dog",), "share a whole of 1"),
    ],
)
def test_prompts_that_cannot_be_told_apart_are_refused(
    words: Bundle, text: Session, prompts: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        made(words, text, *prompts)


@pytest.mark.parametrize(
    ("template", "told"), [("a photo", "0 places"), ("{} or {}", "2 places"), ("", "0 places")]
)
def test_a_template_has_one_place(words: Bundle, text: Session, template: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        made(words, text, "dog", "cat", templates=[template])


def test_a_template_comes_once(words: Bundle, text: Session) -> None:
    with pytest.raises(UsageError, match="comes twice"):
        made(words, text, "dog", "cat", templates=["{}", "{}"])


def test_a_sentence_that_does_not_fit_is_told_and_never_cut(words: Bundle, text: Session) -> None:
    fits = "x" * 19  # with 'a', '.', and the tokens that begin and end a text: 24... less one
    made(words, text, fits, "dog")
    with pytest.raises(InputError, match=r"longer than the 24 tokens .* Shorten"):
        made(words, text, "x" * 40, "dog")


def test_one_prompt_is_enough_where_each_is_judged_by_itself(tmp_path: Path) -> None:
    facts = replace(FACTS, scores="sigmoid", logit_bias=-10.0)
    bundle = words_bundle(tmp_path / "alone", facts=facts)
    with open_session(bundle, "text", "fp32", target=TARGET, threads=1) as session:
        assert made(bundle, session, "dog").head.prompts == ("dog",)


def test_a_bundle_without_words_cannot(text: Session, tmp_path: Path) -> None:
    from helpers.tiny_bundle import tiny_bundle

    with pytest.raises(UsageError, match="cannot compare pictures with words"):
        made(tiny_bundle(tmp_path / "tiny", precisions=["fp32"]), text, "dog", "cat")


def test_a_broken_tokenizer_is_refused_before_anything_is_computed(
    words: Bundle, text: Session, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(words.folder, folder)
    (folder / "assets/tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(BundleError, match=r"assets/tokenizer\.json"):
        Bundle.open(folder)  # altered after export
    manifest = json.loads((folder / "bundle.json").read_text())
    from jetlift.runtime.bundle import sha256_of

    for entry in manifest["files"]:  # broken before the manifest was written
        if entry["path"] == "assets/tokenizer.json":
            path = folder / entry["path"]
            entry |= {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="cannot be read as a tokenizer"):
        made(Bundle.open(folder), text, "dog", "cat")


@given(st.lists(st.text(max_size=12), max_size=6))
def test_clean_prompts_are_stripped_distinct_and_none_is_lost(prompts: list[str]) -> None:
    tidy = [" ".join(prompt.split()) for prompt in prompts]
    if not prompts or not all(tidy) or len(set(tidy)) < len(tidy):
        with pytest.raises(UsageError):
            clean_prompts(prompts)
    else:
        assert list(clean_prompts(prompts)) == tidy
        assert clean_prompts(clean_prompts(prompts)) == clean_prompts(prompts)


@given(st.lists(st.text(alphabet="a{} ", max_size=8), max_size=4))
def test_templates_are_taken_as_they_are_or_refused(templates: list[str]) -> None:
    good = all(t.count("{}") == 1 for t in templates) and len(set(templates)) == len(templates)
    if good:
        assert clean_templates(templates, "own {}") == (tuple(templates) or ("own {}",))
    else:
        with pytest.raises(UsageError):
            clean_templates(templates, "own {}")


@settings(deadline=None)
@given(st.permutations(list(range(6))), st.integers(0, 100))
def test_the_mean_does_not_depend_on_the_order(order: list[int], seed: int) -> None:
    vectors = list(np.random.default_rng(seed).standard_normal((6, 5)))
    turned = [vectors[index] for index in order]
    np.testing.assert_array_equal(mean_of(turned), mean_of(vectors))
    np.testing.assert_allclose(mean_of(vectors), np.mean(vectors, axis=0), atol=1e-12)
