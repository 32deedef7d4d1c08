"""Sentences that can be read aloud, and a corpus that comes out the same every time."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from jetlift.benchmarks import espeak, speech_corpus
from jetlift.benchmarks.sentences import sentences, spoken_sentences
from jetlift.runtime.audio import read_sound
from jetlift.runtime.errors import MissingPackageError, UnknownNameError, UsageError

pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")


def test_there_are_sentences_enough_to_report_on():
    plan = speech_corpus.utterances(speech_corpus.COUNT)
    texts = [text for text, _ in plan]
    assert len(set(texts)) == len(texts) == 264
    report = texts[64:]
    assert len(report) >= 200
    assert sum(len(text.split()) for text in report) >= 2000
    assert all(re.fullmatch(r"[A-Z][a-z, ]+\.", text) for text in texts)


def test_each_split_hears_every_voice():
    voices = [voice for _, voice in speech_corpus.utterances(264)]
    for part in (voices[0:64:2], voices[1:64:2], voices[64:]):
        assert set(part) == set(speech_corpus.VOICES)
    counted = Counter(voices[64:]).values()
    assert max(counted) - min(counted) <= 1


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one():
    assert speech_corpus.utterances(50)[:20] == speech_corpus.utterances(20)


@pytest.mark.parametrize("count", [0, -1, 100_000])
def test_a_count_that_cannot_be_is_refused(count):
    with pytest.raises(UsageError, match="utterances"):
        speech_corpus.utterances(count)


def test_sentences_of_texts_are_as_many_as_asked():
    assert len(set(sentences(400))) == 400
    assert len(spoken_sentences()) >= 264


def test_the_same_samples_come_out_every_time(tmp_path):
    """In two processes, since the synthesiser carries a state from one utterance to the next."""
    count = len(speech_corpus.VOICES) + 2
    speech_corpus.write_corpus(tmp_path / "first", count)
    command = [sys.executable, "-m", "jetlift.benchmarks.speech_corpus"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "second"), "--count", str(count)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{count} utterances" in done.stdout
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("first", "second")
    )
    assert first == second


def test_the_list_tells_what_each_file_is(tmp_path):
    folder = speech_corpus.write_corpus(tmp_path / "corpus", 3)
    told = json.loads((folder / "corpus.json").read_text())
    assert told["licence"] == "PSF-2.0"
    assert "espeakng-loader" in told["synthesiser"]
    for entry in told["utterances"]:
        path = folder / entry["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert path.with_suffix(".txt").read_text() == f"{entry['text']}\n"
        sound = read_sound(path)
        assert sound.sample_rate_hz == 16_000
        words_per_s = len(entry["text"].split()) / sound.duration_s
        assert 1.2 < words_per_s < 4
        assert 0.1 < np.abs(sound.samples).max() <= 1
    assert len(list(folder.iterdir())) == 7


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert speech_corpus.main(["-o", str(tmp_path / "x"), "--count", "0"]) == 2
    assert "Asked for 0 utterances" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_an_unknown_voice_is_refused():
    with espeak.Espeak() as speaker, pytest.raises(UnknownNameError, match="'xx-nobody'"):
        speaker.speak("Hello.", espeak.Voice("xx-nobody"))


def test_without_the_package_the_line_that_mends_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingPackageError, match=r"jetlift\[dev\]"):
        espeak.Espeak()
