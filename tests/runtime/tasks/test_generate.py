"""Text from a prompt on a real graph and engine: how it ends, streams, and what is refused."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest
from helpers.decoder_bundle import CACHE, END, VOCABULARY, decoder_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.__main__ import run
from jetlift.export.recipes.random_tokenizers import byte_level
from jetlift.runtime.errors import BundleError, EngineLibraryError, InputError, UsageError
from jetlift.runtime.sampling import SamplingOptions
from jetlift.runtime.session import open_session
from jetlift.runtime.tasks import open_task
from jetlift.runtime.tasks.decoder import FACTS, ChatTemplate, Decoder, DecoderFacts
from jetlift.runtime.tasks.generate import GenerateOptions
from jetlift.runtime.tasks.text_stream import TextStream
from jetlift.runtime.texts import TextItem

SAID = "abcdefé日 xyz."


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return decoder_bundle(tmp_path_factory.mktemp("decoder") / "plain", SAID, chat=True)


@contextmanager
def task_of(bundle, **more):
    on_text = more.pop("on_text", None)
    with open_session(bundle, "decoder", "fp32", target="cpu-onnxruntime", threads=1) as session:
        options = GenerateOptions(**more)
        yield open_task(
            "generate", bundle, session, precision="fp32", options=options, on_text=on_text
        )


def written(bundle, prompt, **more):
    with task_of(bundle, **more) as task:
        return task.run(TextItem("t.txt", 4, prompt))


def test_the_text_goes_on_to_its_end_and_streams_as_it_comes(bundle):
    pieces: list[str] = []
    fields = written(bundle, "xxa", on_text=pieces.append)
    assert fields == {
        "source": "t.txt", "index": 4, "time_s": None, "prompt": "xxa", "text": SAID[1:],
        "prompt_tokens": 3, "tokens": len(SAID.encode()), "ended": "end", "seed": None,
        "chat": False,
    }  # fmt: skip
    assert "".join(pieces) == SAID[1:]
    assert len(pieces) == len(SAID) - 1  # a letter of several bytes comes whole


@pytest.mark.parametrize(
    ("stops", "text"), [(("é",), "bcdef"), (("fé日", "zz"), "bcde"), (("nowhere",), SAID[1:])]
)
def test_a_stop_string_ends_the_text_and_is_no_part_of_it(bundle, stops, text):
    pieces: list[str] = []
    fields = written(bundle, "a", stops=stops, on_text=pieces.append)
    assert fields["text"] == "".join(pieces) == text
    assert fields["ended"] == ("end" if text == SAID[1:] else "stop")


def test_the_text_ends_at_the_limit_or_where_the_cache_is_full(bundle):
    assert written(bundle, "a", max_tokens=3) | {"source": ""} == {
        "source": "", "index": 4, "time_s": None, "prompt": "a", "text": "bcd", "prompt_tokens": 1,
        "tokens": 3, "ended": "max_tokens", "seed": None, "chat": False,
    }  # fmt: skip
    fields = written(bundle, "x" * (CACHE.positions - 2) + "a")
    assert (fields["text"], fields["ended"]) == ("bc"[:2], "context")


def test_a_prompt_that_leaves_no_room_is_told_and_never_cut(bundle):
    with pytest.raises(InputError, match=r"has 24 tokens.*At most 23"):
        written(bundle, "x" * CACHE.positions)


@pytest.mark.parametrize("blank", ["", "   ", "\t\n"])
def test_an_empty_prompt_is_refused(bundle, blank):
    with pytest.raises(InputError, match="is blank"):
        written(bundle, blank)


def test_a_seed_repeats_for_every_prompt_alone(bundle):
    sampling = SamplingOptions(temperature=3.0, seed=11)
    with task_of(bundle, sampling=sampling, max_tokens=12) as task:
        first, again = (task.run(TextItem("t", 0, "a")) for _ in range(2))
    assert first == again
    assert first["seed"] == 11
    other = written(bundle, "a", sampling=SamplingOptions(3.0, seed=12), max_tokens=12)
    assert other["text"] != first["text"]


def test_a_turn_is_written_by_the_template_and_braces_mean_nothing(bundle):
    fields = written(bundle, "{system}a", chat=True, system="s", max_tokens=1)
    assert fields["prompt_tokens"] == len("<s>{system}a:")
    assert fields["chat"]
    assert ChatTemplate("{system}|{user}", "mine").written("{user}") == "mine|{user}"


def test_a_model_without_turns_refuses_them(tmp_path):
    plain = decoder_bundle(tmp_path / "plain", "ab")
    with pytest.raises(UsageError, match="has no turns"):
        written(plain, "a", chat=True)


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"stops": ("",)}, {"system": "be kind"}])
def test_options_that_make_no_text_are_refused(bundle, wrong):
    with pytest.raises(UsageError):
        written(bundle, "a", **wrong)


def test_nan_ends_the_run(tmp_path):
    with pytest.raises(EngineLibraryError, match="NaN or infinity"):
        written(decoder_bundle(tmp_path / "nan", "ab", nan=True), "a")


@pytest.mark.parametrize("piece", [1, 2, 5, 24])
def test_how_a_prompt_is_cut_changes_nothing(bundle, piece):
    ids = list(range(70, 82))
    with open_session(bundle, "decoder", "fp32", target="cpu-onnxruntime", threads=1) as session:
        decoder = Decoder(session, piece)
        logits = decoder.advance(ids)
        cached = decoder.cached()["past_key_0"][0]
        with pytest.raises(InputError, match="12 and 13 more"):
            decoder.advance([*ids, 1])
        with pytest.raises(UsageError, match="no tokens"):
            decoder.advance([])
    assert cached.reshape(-1).tolist() == ids
    assert logits.shape == (VOCABULARY,)


def test_broken_assets_are_told(tmp_path):
    facts = tmp_path / "decoder.json"
    for content, told in ((b"{", "cannot be read"), (None, "cannot be read")):
        facts.unlink(missing_ok=True)
        if content is not None:
            facts.write_bytes(content)
        with pytest.raises(BundleError, match=told):
            DecoderFacts.read(facts)
    good = {"decoder": "d", "tokenizer": "assets/t.json", "ends": [1], "piece": 0, "chat": None}
    facts.write_text(json.dumps(good))
    with pytest.raises(BundleError, match="pieces of 0 tokens"):
        DecoderFacts.read(facts)
    good |= {"piece": 4, "chat": {"turn": "no place", "system": ""}}
    facts.write_text(json.dumps(good))
    with pytest.raises(BundleError, match="without its"):
        DecoderFacts.read(facts)


def test_a_broken_tokenizer_is_told(tmp_path):
    made = decoder_bundle(tmp_path / "broken", "ab")
    made.path("assets/tokenizer.json").write_bytes(b"{}")
    with pytest.raises(BundleError, match="tokenizer"):
        written(made, "a")
    assert made.path(FACTS).is_file()


# The stream by itself.


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer

    return Tokenizer.from_str(byte_level(VOCABULARY, {"<end>": END}).decode())


@settings(deadline=None, max_examples=200)
@given(ids=st.lists(st.integers(0, VOCABULARY - 2), max_size=30))
def test_pieces_are_together_what_the_tokenizer_decodes(tokenizer, ids):
    stream = TextStream(tokenizer)
    assert "".join([*map(stream.push, ids), stream.finish()]) == tokenizer.decode(ids)


@settings(deadline=None, max_examples=200)
@given(
    text=st.text("abé日", max_size=20),
    stops=st.lists(st.text("abé日", min_size=1, max_size=4), max_size=3),
)
def test_what_was_given_out_is_the_text_up_to_the_first_stop(tokenizer, text, stops):
    stream, pieces = TextStream(tokenizer, stops), []
    for number in tokenizer.encode(text).ids:
        pieces.append(stream.push(number))
        assert not stream.stopped or stream.push(number) == ""
        if stream.stopped:
            break
    told = "".join([*pieces, stream.finish()])
    # A stop is looked for in what has come, so that one that is whole earlier wins.
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert told == text
        assert not stream.stopped
        return
    come = text[: min(ends)]
    places = [come.find(stop) for stop in stops if stop in come]
    assert told == text[: min(places)]


# The command.


def test_the_command_writes_results_and_refuses_what_cannot_be(bundle, capsys, tmp_path):
    folder, words = str(bundle.folder), ["--target", "cpu-onnxruntime"]
    assert run(["run", folder, "x xa", *words, "--max-tokens", "4"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert (fields["text"], fields["ended"], fields["source"]) == ("bcde", "max_tokens", "argument")
    out = tmp_path / "out"
    assert run(["run", folder, "x xa", *words, "--stop", "e", "-o", str(out)]) == 0
    assert json.loads((out / "results.jsonl").read_text())["text"] == "bcd"
    assert "tokens/s" in capsys.readouterr().err
    for wrong, told in (
        (["--temperature", "-1"], "temperature of -1"),
        (["--temperature", "1", "--top-p", "1.5"], "top-p 1.5"),
        (["--seed", "3"], "nothing is drawn"),
        (["--max-tokens", "0"], "at most 0 tokens"),
        (["--system", "x"], "without a turn"),
        (["--prompt", "x"], "got prompts"),
    ):
        assert run(["run", folder, "x xa", *words, *wrong]) == 2, wrong
        assert told in capsys.readouterr().err


def test_on_a_terminal_the_text_appears_as_it_is_written(bundle):
    import os
    import pty
    import sys

    command = [sys.executable, "-m", "jetlift", "run", str(bundle.folder), "x xa"]
    seen: list[bytes] = []

    def read(descriptor: int) -> bytes:
        seen.append(os.read(descriptor, 1024))
        return seen[-1]

    status = pty.spawn([*command, "--target", "cpu-onnxruntime"], read, lambda _fd: b"")
    assert os.waitstatus_to_exitcode(status) == 0
    told = b"".join(seen).decode()
    assert SAID[1:] in told
    assert '"text"' not in told


def test_logits_of_the_helper_depend_on_the_last_token_alone(bundle):
    with open_session(bundle, "decoder", "fp32", target="cpu-onnxruntime", threads=1) as session:
        one = Decoder(session, 4).advance([65])
        many = Decoder(session, 4).advance([1, 2, 3, 4, 65])
    np.testing.assert_array_equal(one, many)
