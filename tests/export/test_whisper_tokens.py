"""Whisper's vocabulary: ids of OpenAI's own tokenizer, special tokens, what the loop is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from jetlift.export.recipes import whisper_tokens
from jetlift.export.recipes.whisper_sizes import SIZES, TINY
from jetlift.runtime.errors import InputError, MissingPackageError
from jetlift.runtime.languages import LANGUAGES

DATA = json.loads((Path(__file__).parents[1] / "data" / "whisper" / "tokens.json").read_text())
BY_NAME = {size.name: size for size in SIZES}
NOTHING = ((), ())


def _tokenizer(name: str) -> bytes:
    """The tokenizer of a size with the ranks that the texts of the fixture need."""
    size = BY_NAME[name]
    kind = "gpt2" if size.english_only else "multilingual"
    lines = "\n".join(f"{token} {rank}" for token, rank in DATA["ranks"][kind].items())
    return whisper_tokens.tokenizer_json(whisper_tokens.read_ranks(lines), size)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("whisper-tiny", "multilingual"),
        ("whisper-large-v3", "multilingual"),
        ("whisper-tiny-en", "gpt2"),
    ],
)
def test_ids_equal_those_of_openai_and_come_back_as_the_text(name, kind):
    tokenizer = Tokenizer.from_str(_tokenizer(name).decode())
    for row in DATA["texts"]:
        ids = tokenizer.encode(row["text"], add_special_tokens=False).ids
        assert ids == row[kind], row["text"]
        assert tokenizer.decode(ids) == row["text"]


def test_the_whole_file_of_ranks_gives_these_ids_too():
    """Where openai-whisper is installed (pip install --no-deps openai-whisper==20250625)."""
    try:
        content = whisper_tokens.random_tokenizer(BY_NAME["whisper-tiny"])
    except MissingPackageError:
        pytest.skip("openai-whisper, which ships the ranks, is not installed")
    tokenizer = Tokenizer.from_str(content.decode())
    assert tokenizer.get_vocab_size() == 50_257 + 107
    for row in DATA["texts"]:
        assert tokenizer.encode(row["text"]).ids == row["multilingual"]


# openai/whisper, whisper/tokenizer.py: 50257 or 50256 text tokens, then these in order.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("whisper-tiny", {"end": 50_257, "prompt": (50_258, 50_259, 50_359, 50_363), "ja": 50_266}),
        (
            "whisper-large-v3",
            {"end": 50_257, "prompt": (50_258, 50_259, 50_360, 50_364), "ja": 50_266},
        ),
        ("whisper-medium-en", {"end": 50_256, "prompt": (50_257, 50_362)}),
    ],
)
def test_the_loop_is_told_the_ids(name, expected):
    size = BY_NAME[name]
    facts = whisper_tokens.generation_facts(size, _tokenizer(name), NOTHING)
    assert facts.prompt == expected["prompt"]
    assert facts.end == expected["end"]
    assert facts.nothing_said == facts.untimed - 1
    assert facts.first_stamp + 1501 == size.vocabulary
    assert facts.max_tokens == 224
    if size.english_only:
        assert facts.languages is facts.transcribe is facts.translate is None
    else:
        assert facts.languages is not None
        assert facts.languages["ja"] == expected["ja"]
        assert tuple(facts.languages) == tuple(LANGUAGES)[: size.languages]
        assert facts.translate == facts.prompt[2] - 1


def test_every_language_of_the_vocabulary_is_known():
    assert len(LANGUAGES) == 100
    assert list(LANGUAGES)[99] == "yue"
    for size in SIZES:
        assert size.languages in (99, 100)
        assert size.vocabulary == size.text_tokens + 2 + size.languages + 6 + 1501
        assert size.text_tokens == (50_256 if size.english_only else 50_257)


def test_the_tokenizer_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"<\|yue\|> the id None.*Whisper large-v3's"):
        whisper_tokens.generation_facts(
            BY_NAME["whisper-large-v3"], _tokenizer("whisper-tiny"), NOTHING
        )


def test_the_hubs_older_words_are_understood():
    content = _tokenizer("whisper-tiny").replace(b"<|nospeech|>", b"<|nocaptions|>")
    content = content.replace(b"<|he|>", b"<|iw|>")
    facts = whisper_tokens.generation_facts(BY_NAME["whisper-tiny"], content, NOTHING)
    assert facts.nothing_said == 50_362
    assert facts.languages is not None
    assert facts.languages["he"] == 50_279


def test_the_size_for_tests_needs_no_package():
    tokenizer = Tokenizer.from_str(whisper_tokens.random_tokenizer(TINY).decode())
    text = "吾輩は猫である"
    ids = tokenizer.encode(text).ids
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_to_id("<|ja|>") == 258 + list(LANGUAGES).index("ja")
