"""The loop on a toy decoder whose next token is known, so that every rule can be watched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime import jsonform
from jetlift.runtime.errors import BundleError, EngineLibraryError, UsageError
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.tasks.greedy import Decoded, GenerationFacts, GreedyDecoder, Steps

POSITIONS, VOCABULARY, END = 12, 10, 9
FACTS = GenerationFacts(
    encoder="encoder", cross="cross", decoder="decoder", tokenizer="assets/tokenizer.json",
    prompt=(7, 8), end=END, nothing_said=6, suppress=(5,), suppress_first=(4,), max_tokens=8,
)  # fmt: skip


class ToyDecoder(FakeSession):
    """Says what its cross value of the row spells: one wanted token per place."""

    def __init__(self) -> None:
        cache = (1, POSITIONS, 1)
        inputs = [
            TensorSpec("token", "int64", ("batch",)),
            TensorSpec("position", "int64", ("batch",)),
            TensorSpec("past_key_0", "float32", ("batch", *cache)),
            TensorSpec("past_value_0", "float32", ("batch", *cache)),
            TensorSpec("cross_key_0", "float32", ("batch", POSITIONS, VOCABULARY)),
        ]
        outputs = [
            TensorSpec("logits", "float32", ("batch", VOCABULARY)),
            TensorSpec("new_key_0", "float32", ("batch", 1, 1, 1)),
            TensorSpec("new_value_0", "float32", ("batch", 1, 1, 1)),
        ]
        super().__init__(inputs, outputs, self._say)
        self.calls: list[dict[str, np.ndarray]] = []

    def _say(self, feeds):
        self.calls.append({name: np.array(array) for name, array in feeds.items()})
        rows = np.arange(len(feeds["token"]))
        fresh = feeds["token"].astype(np.float32).reshape(-1, 1, 1, 1)
        logits = feeds["cross_key_0"][rows, feeds["position"]]
        return {"logits": logits, "new_key_0": fresh, "new_value_0": -fresh}


def _script(*tokens: int) -> np.ndarray:
    """Cross values that say these tokens after the prompt, and the end from then on."""
    wanted = [0, *tokens, *[END] * POSITIONS][:POSITIONS]
    return np.eye(VOCABULARY, dtype=np.float32)[wanted][None]


def _decode(*scripts: np.ndarray, limits=None) -> tuple[list[Decoded], ToyDecoder]:
    toy = ToyDecoder()
    cross = {"cross_key_0": np.concatenate(scripts)}
    return GreedyDecoder(toy, FACTS).decode(cross, limits), toy


def test_tokens_until_the_end():
    (decoded,), toy = _decode(_script(1, 2, 3))
    assert decoded.tokens == (1, 2, 3)
    assert decoded.ended
    assert [int(call["token"][0]) for call in toy.calls] == [7, 8, 1, 2, 3]
    assert [int(call["position"][0]) for call in toy.calls] == [0, 1, 2, 3, 4]


def test_the_cache_holds_what_each_step_made_and_nothing_behind_it():
    _, toy = _decode(_script(1, 2))
    for done, call in enumerate(toy.calls):
        told = [7, 8, 1, 2][:done]
        np.testing.assert_array_equal(
            call["past_key_0"][0, 0, :, 0], told + [0] * (POSITIONS - done)
        )
        np.testing.assert_array_equal(call["past_value_0"], -call["past_key_0"])


token_lists = st.lists(st.sampled_from([0, 1, 2, 3]), max_size=8)


@settings(deadline=None)
@given(st.lists(token_lists, min_size=1, max_size=4))
def test_a_batch_says_what_each_would_alone(rows):
    together, _ = _decode(*(_script(*row) for row in rows))
    alone = [_decode(_script(*row))[0][0] for row in rows]
    assert together == alone
    assert [list(decoded.tokens) for decoded in together] == rows


def test_suppressed_tokens_are_never_taken_and_some_not_first():
    script = _script(5, 4, 4)  # 5 never, 4 not first: it stands second and third
    script[0, 1, 3] = 0.5  # the next best where 5 is wanted
    (decoded,), _ = _decode(script)
    assert decoded.tokens == (3, 4, 4)
    script = _script(4, 1)
    script[0, 1, 2] = 0.5
    assert _decode(script)[0][0].tokens == (2, 1)


def test_limits_cut_and_say_so():
    endless = _script(*[1] * 11)
    (decoded,), toy = _decode(endless)
    assert decoded == Decoded((1,) * 8, ended=False, silence=decoded.silence)
    assert len(toy.calls) == 2 + 7  # no step beyond the last token that is kept
    (short, longer), _ = _decode(endless, _script(1, 2, 3), limits=[2, 5])
    assert short.tokens == (1, 1)
    assert not short.ended
    assert longer.tokens == (1, 2, 3)
    assert longer.ended


def test_the_cache_is_never_overrun():
    roomy = GenerationFacts(**{**vars(FACTS), "max_tokens": 100})
    decoded = GreedyDecoder(ToyDecoder(), roomy).decode({"cross_key_0": _script(*[1] * 11)})
    assert len(decoded[0].tokens) == POSITIONS - 2
    assert not decoded[0].ended


def test_silence_is_the_probability_at_the_first_token():
    script = _script(1)
    script[0, 0] = 0
    script[0, 0, 6] = np.log(9)  # nine to nine others
    assert _decode(script)[0][0].silence == pytest.approx(0.5)


def test_logits_that_are_not_finite_are_an_error():
    script = _script(1, 2)
    script[0, 2, 0] = np.nan
    with pytest.raises(EngineLibraryError, match="position 2 hold NaN"):
        _decode(script)


def test_a_session_of_another_kind_is_refused():
    wrong = FakeSession([TensorSpec("hidden", "float32", ("batch", 3))], [], dict)
    with pytest.raises(UsageError, match="takes hidden"):
        Steps(wrong, {})


def test_facts_are_read_as_written(tmp_path):
    path = tmp_path / "generation.json"
    path.write_text(jsonform.dumps(FACTS))
    assert GenerationFacts.read(path) == FACTS
    path.write_text(jsonform.dumps(GenerationFacts(**{**vars(FACTS), "prompt": ()})))
    with pytest.raises(BundleError, match="no prompt"):
        GenerationFacts.read(path)
    path.write_text("{}")
    with pytest.raises(BundleError, match="encoder"):
        GenerationFacts.read(path)
    with pytest.raises(BundleError, match="cannot be read"):
        GenerationFacts.read(tmp_path / "nothing.json")
