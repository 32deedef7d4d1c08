"""One window through a decoder that says what it is told: prompts, languages, tries, silence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from jetlift.export.recipes import whisper_tokens
from jetlift.export.recipes.whisper_sizes import SIZES
from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.tasks.greedy import Steps
from jetlift.runtime.tasks.timestamps import read_stamps
from jetlift.runtime.tasks.utterance import UtteranceDecoder, compression

DATA = json.loads((Path(__file__).parents[2] / "data" / "whisper" / "tokens.json").read_text())
SIZE = next(size for size in SIZES if size.name == "whisper-tiny")
CROSS = {"cross_key_0": np.zeros((1, 1), np.float32)}
POSITIONS = 448


@pytest.fixture(scope="module")
def content():
    lines = "\n".join(f"{token} {rank}" for token, rank in DATA["ranks"]["multilingual"].items())
    return whisper_tokens.tokenizer_json(whisper_tokens.read_ranks(lines), SIZE)


@pytest.fixture(scope="module")
def tokenizer(content):
    return Tokenizer.from_str(content.decode())


@pytest.fixture(scope="module")
def facts(content):
    return whisper_tokens.generation_facts(SIZE, content, ((), (220, 50_257)))


def _specs(*shapes: tuple[str, str, tuple[int, ...]]) -> list[TensorSpec]:
    return [TensorSpec(name, kind, ("batch", *shape)) for name, kind, shape in shapes]


class Speaker:
    """A decoder whose likeliest tokens are given, and which notes what it was asked.

    Args:
        says: Its token after each position.
        peak: How much likelier than the rest.
    """

    def __init__(self, says, *, peak=30.0, silence=0.0, facts=None) -> None:
        self.says, self.peak, self.silence, self.facts = says, peak, silence, facts
        self.took: list[tuple[int, int]] = []
        cache = (1, POSITIONS, 1)
        self.session = FakeSession(
            _specs(
                ("token", "int64", ()), ("position", "int64", ()),
                ("past_key_0", "float32", cache), ("past_value_0", "float32", cache),
                ("cross_key_0", "float32", (1,)),
            ),
            _specs(
                ("logits", "float32", (SIZE.vocabulary,)),
                ("new_key_0", "float32", (1, 1, 1)), ("new_value_0", "float32", (1, 1, 1)),
            ),
            self._answer,
        )  # fmt: skip

    def _answer(self, feeds):
        position, token = int(feeds["position"][0]), int(feeds["token"][0])
        self.took.append((position, token))
        logits = np.zeros((1, SIZE.vocabulary), np.float32)
        logits[0, self.says(position)] = self.peak
        if position == 0 and self.silence:
            rest = np.log(np.exp(logits[0].astype(np.float64)).sum())
            logits[0, 50_362] = rest + np.log(self.silence / (1 - self.silence))
        fresh = np.full((1, 1, 1, 1), token, np.float32)
        # The cache is what was fed before, whatever was tried and rewound in between.
        past = feeds["past_key_0"][0, 0, :position, 0]
        assert past.tolist() == [float(t) for _, t in self._line(position)]
        return {"logits": logits, "new_key_0": fresh, "new_value_0": fresh}

    def _line(self, position):
        """The last token taken at each position before this one."""
        return sorted(dict(item for item in self.took[:-1] if item[0] < position).items())


def _script(*tokens):
    return lambda position: tokens[min(position, len(tokens) - 1)]


def _decoder(speaker, facts, tokenizer, **asked):
    return UtteranceDecoder(
        speaker.session, facts, lambda ids: tokenizer.decode(list(ids)), **asked
    )


def test_a_japanese_utterance_goes_through_prompt_and_tokenizer(facts, tokenizer):
    text = DATA["texts"][0]["text"]
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    ja, end = facts.languages["ja"], facts.end
    stamps = [facts.first_stamp + 10, facts.first_stamp + 150]
    speaker = Speaker(_script(ja, 0, stamps[0], *ids, stamps[1], end))
    found = _decoder(speaker, facts, tokenizer).decode(CROSS)
    assert found.language == "ja"
    assert found.language_probability == pytest.approx(1.0, abs=1e-6)
    assert found.best.text == text
    assert found.best.ended
    assert found.best.average_logprob == pytest.approx(0.0, abs=1e-6)
    assert [token for _, token in speaker.took[:3]] == [50_258, 50_266, 50_359]
    (piece,) = read_stamps(found.best.tokens, facts.first_stamp).pieces
    assert (piece.start, piece.end) == (10, 150)
    assert tokenizer.decode(list(piece.tokens)) == text


@pytest.mark.parametrize(
    ("language", "translate", "prompt"),
    [("ja", False, [50_258, 50_266, 50_359]), ("de", True, [50_258, 50_261, 50_358])],
)
def test_the_language_and_the_task_are_told(facts, tokenizer, language, translate, prompt):
    speaker = Speaker(_script(facts.languages["en"], 0, facts.first_stamp, 2, facts.end))
    decoder = _decoder(speaker, facts, tokenizer, translate=translate)
    found = decoder.decode(CROSS, language)
    assert [token for _, token in speaker.took[:3]] == prompt
    assert found.language == language
    assert found.language_probability is None


def test_a_model_of_english_alone_has_no_language_in_its_prompt(tokenizer):
    english = next(size for size in SIZES if size.name == "whisper-tiny-en")
    lines = "\n".join(f"{token} {rank}" for token, rank in DATA["ranks"]["gpt2"].items())
    content = whisper_tokens.tokenizer_json(whisper_tokens.read_ranks(lines), english)
    facts = whisper_tokens.generation_facts(english, content, ((), ()))
    speaker = Speaker(_script(facts.first_stamp, 2, facts.end))
    found = _decoder(speaker, facts, tokenizer).decode(CROSS)
    assert [token for _, token in speaker.took] == [50_257, facts.first_stamp, 2]
    assert found.language is found.language_probability is None


def test_suppressed_tokens_are_never_taken(facts, tokenizer):
    speaker = Speaker(_script(facts.languages["en"], 0, facts.untimed, facts.untimed))
    found = _decoder(speaker, facts, tokenizer, temperatures=(0.0,)).decode(CROSS)
    assert facts.untimed not in found.best.tokens
    assert found.best.tokens[0] == facts.first_stamp


def _babble(facts, token):
    """Says one word for ever."""
    return lambda position: [facts.languages["en"], 0, facts.first_stamp][position] if position < 3 else token  # fmt: skip  # noqa: E501


def test_what_repeats_itself_is_tried_again_and_the_cache_is_rewound(facts, tokenizer):
    word = tokenizer.encode(" country", add_special_tokens=False).ids[0]
    speaker = Speaker(_babble(facts, word))
    found = _decoder(speaker, facts, tokenizer, temperatures=(0.0, 1.0)).decode(CROSS)
    starts = [place for place, token in speaker.took if place == 3]
    assert len(starts) == 2  # one per temperature
    assert [token for place, token in speaker.took].count(50_258) == 1
    assert found.best.repeats
    assert not found.best.ended
    assert len(found.best.tokens) == 224
    assert found.best.temperature == 1.0


def test_what_is_unlikely_is_drawn_again_and_the_same_each_time(facts, tokenizer):
    said = _script(facts.languages["en"], 0, facts.first_stamp, 2, 3, facts.end)
    makes = [
        _decoder(Speaker(said, peak=1.0), facts, tokenizer, temperatures=(0.0, 0.5))
        for _ in range(2)
    ]
    first, second = (decoder.decode(CROSS) for decoder in makes)
    assert first == second
    assert first.best.unlikely
    assert not first.nothing_said


def test_likely_silence_with_unlikely_words_is_not_tried_again(facts, tokenizer):
    said = _script(facts.languages["en"], 0, facts.first_stamp, 2, 3, facts.end)
    speaker = Speaker(said, peak=1.0, silence=0.9)
    found = _decoder(speaker, facts, tokenizer).decode(CROSS)
    assert found.silence == pytest.approx(0.9, abs=1e-4)
    assert found.nothing_said
    assert found.best.temperature == 0
    sure = Speaker(said, peak=30.0, silence=0.9)
    assert not _decoder(sure, facts, tokenizer).decode(CROSS).nothing_said


def test_compression_tells_repetition():
    assert compression("") == 0
    assert compression("the quick brown fox jumps over the lazy dog") < 1.2
    assert compression("for you, " * 30) > 2.4


def test_steps_are_rewound_only_to_where_they_were(facts):
    steps = Steps(Speaker(_script(0)).session, CROSS)
    steps.advance(np.array([facts.start], np.int64))
    with pytest.raises(UsageError, match="rewound to 2"):
        steps.rewind(2)
    steps.rewind(0)
    assert steps.done == 0
