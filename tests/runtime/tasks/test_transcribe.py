"""Real speech through the real model on both CPU engines: short, long, silent, none."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

import numpy as np
import pytest

from jetlift.benchmarks.speech_corpus import write_corpus
from jetlift.export.fidelity.words import word_errors
from jetlift.runtime.audio import Sound, read_sound, resample
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.run import open_inputs, run_task
from jetlift.runtime.session import open_session
from jetlift.runtime.sounds import SoundItem, open_sounds
from jetlift.runtime.tasks import needs_every_part, open_task
from jetlift.runtime.texts import TextItem

JFK = (
    "And so my fellow Americans ask not what your country can do for you "
    "ask what you can do for your country."
)


@contextlib.contextmanager
def _task(bundle, target, **asked):
    with contextlib.ExitStack() as stack:
        encoder, cross, decoder = (
            stack.enter_context(open_session(bundle, part, "fp32", target=target))
            for part in ("encoder", "cross", "decoder")
        )
        others = {"cross": cross, "decoder": decoder}
        yield open_task("transcribe", bundle, encoder, precision="fp32", others=others, **asked)


@pytest.fixture(scope="module", params=["cpu", "cpu-onnxruntime"])
def task(whisper_bundle, request):
    with _task(whisper_bundle, request.param) as opened:
        yield opened


def test_the_real_recording_is_transcribed(task, speech):
    fields = task.run(SoundItem("jfk.flac", 0, read_sound(speech)))
    assert list(fields)[:3] == ["source", "index", "time_s"]
    assert fields["text"] == JFK
    assert fields["duration_s"] == pytest.approx(11.0, abs=0.01)
    assert fields["language"] == "en"
    (window,) = fields["windows"]
    assert window["whole"]
    assert not window["dropped"]
    assert window["silence"] < 0.1
    assert window["temperature"] == 0
    assert " ".join(segment["text"] for segment in fields["segments"]) == JFK
    first, *_, last = fields["segments"]
    assert first["start_s"] < 1
    assert 10 < last["end_s"] <= 11


def test_captions_have_the_words_and_the_times(task, speech):
    outcome = task.process(SoundItem("jfk.flac", 0, read_sound(speech)))
    assert set(outcome.files) == {".srt", ".vtt", ".json"}
    assert json.loads(outcome.files[".json"]) == outcome.fields
    words = [line for line in outcome.files[".srt"].splitlines() if line[:1].isalpha()]
    assert " ".join(words) == JFK
    assert outcome.files[".srt"].startswith("1\n00:00:00,000 --> 00:00:0")
    assert outcome.files[".vtt"].startswith("WEBVTT\n\n00:00:00.000 --> 00:00:0")


def _follow_each_other(fields):
    times = [time for item in fields["segments"] for time in (item["start_s"], item["end_s"])]
    assert times == sorted(times)
    assert all(item["start_s"] < item["end_s"] for item in fields["segments"])
    assert times[0] >= 0
    assert times[-1] <= fields["duration_s"]


def test_three_minutes_are_transcribed_in_windows(whisper_bundle, speech):
    """The recording ten times, with silence of 7 s behind each."""
    once, times = read_sound(speech), 10
    pause = np.zeros(7 * once.sample_rate_hz, np.float32)
    sound = Sound(np.concatenate([once.samples, pause] * times), once.sample_rate_hz)
    with _task(whisper_bundle, "cpu") as task:
        fields = task.run(SoundItem("long", 0, sound))
    assert fields["duration_s"] == pytest.approx(180, abs=0.1)
    assert fields["text"].lower() == " ".join([JFK.lower()] * times)
    _follow_each_other(fields)
    assert len(fields["windows"]) == times
    for number, window in enumerate(fields["windows"]):
        assert window["start_s"] == pytest.approx(18 * number, abs=0.6)
    silent = [(18 * number + 11.6, 18 * number + 17.4) for number in range(times)]
    for item in fields["segments"]:
        assert all(item["end_s"] <= start or item["start_s"] >= end for start, end in silent)


def test_speech_without_long_pauses_goes_on_where_the_last_segment_ended(whisper_bundle, tmp_path):
    """A minute of different sentences, spoken by a synthesiser that never rests for long."""
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")
    folder = write_corpus(tmp_path / "corpus", 12)
    sounds = [read_sound(path) for path in sorted(folder.glob("*.wav"))]
    words = " ".join(path.read_text() for path in sorted(folder.glob("*.txt")))
    sound = Sound(np.concatenate([item.samples for item in sounds]), sounds[0].sample_rate_hz)
    with _task(whisper_bundle, "cpu") as task:
        fields = task.run(SoundItem("long", 0, sound))
    assert fields["duration_s"] > 45
    assert len(fields["windows"]) >= 2
    _follow_each_other(fields)
    # Less than the model's error on such voices and a lost or doubled window would be more.
    errors, count = word_errors(words, fields["text"])
    assert errors < 0.5 * count


@pytest.mark.parametrize(
    ("rate_hz", "channels", "form"), [(8000, 1, "PCM_U8"), (96_000, 2, "FLOAT")]
)
def test_poor_and_rich_files_give_the_words_too(
    whisper_bundle, speech, tmp_path, rate_hz, channels, form
):
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    once, path = read_sound(speech), tmp_path / "jfk.wav"
    samples = resample(once.samples, once.sample_rate_hz, rate_hz)
    soundfile.write(path, np.stack([samples] * channels, axis=1), rate_hz, subtype=form)
    with _task(whisper_bundle, "cpu-onnxruntime") as task:
        text = task.run(SoundItem("jfk.wav", 0, read_sound(path)))["text"]
    # Half the band and 8 bit cost a word at most.
    assert word_errors(JFK, text)[0] <= (1 if form == "PCM_U8" else 0)


@pytest.mark.parametrize("count", [1, 16_000, 160_000])
def test_silence_gives_no_text(task, count):
    fields = task.run(SoundItem("silence", 0, Sound(np.zeros(count, np.float32), 16_000)))
    assert fields["text"] == ""
    assert fields["segments"] == fields["windows"] == []


def test_noise_that_changes_gives_no_text(task):
    """It passes the gate, and the model says that it is no speech."""
    random = np.random.default_rng(0)
    samples = random.normal(0, 0.02, 160_000) * np.repeat(random.uniform(0.2, 2, 20), 8000)
    fields = task.run(SoundItem("noise", 0, Sound(samples.astype(np.float32), 16_000)))
    assert fields["windows"]
    assert fields["text"] == ""


@pytest.mark.parametrize("asked", [{"language": "ja"}, {"translate": True}, {"language": "en"}])
def test_a_model_of_english_alone_takes_no_language_and_translates_nothing(whisper_bundle, asked):
    with (
        pytest.raises(UsageError, match=r"trained on English alone.*multilingual"),
        _task(whisper_bundle, "cpu-onnxruntime", **asked),
    ):
        pass


def test_other_inputs_and_missing_sessions_are_refused(task, whisper_bundle):
    with pytest.raises(UsageError, match="got no sound"):
        task.run(TextItem("-", 0, "text"))
    with (
        open_session(whisper_bundle, "encoder", "fp32", target="cpu-onnxruntime") as encoder,
        pytest.raises(UsageError, match="no session of cross, decoder"),
    ):
        open_task("transcribe", whisper_bundle, encoder, precision="fp32")
    assert needs_every_part("transcribe")
    assert not needs_every_part("embed")
    assert not needs_every_part("unknown")


def test_run_writes_one_line_per_file_and_names_what_it_left_out(whisper_bundle, speech, tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    (folder / "a.flac").write_bytes(speech.read_bytes())
    (folder / "b.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    (folder / "words.txt").write_text("no sound")
    with (
        _task(whisper_bundle, "cpu") as task,
        open_inputs(whisper_bundle, "encoder", [str(folder)]) as source,
    ):
        assert source.count == 2
        summary = run_task(task, source, out=tmp_path / "out")
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == [JFK]
    captions = tmp_path / "out" / "captions"
    assert sorted(path.name for path in captions.iterdir()) == ["a.json", "a.srt", "a.vtt"]
    assert json.loads((captions / "a.json").read_text())["text"] == JFK
    assert summary.done == 1
    ((skipped, reason),) = summary.skipped
    assert skipped.endswith("b.wav")
    assert "damaged WAV" in reason


def test_the_command_line(whisper_bundle, speech):
    command = [sys.executable, "-m", "jetlift", "run", str(whisper_bundle.folder), str(speech)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == JFK
    command += ["--language", "ja"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "trained on English alone" in done.stderr


def test_sources_of_nothing_are_refused(tmp_path):
    with pytest.raises(UsageError, match="No input"):
        open_sounds([])
    with pytest.raises(UsageError, match="limit of 0"):
        open_sounds([str(tmp_path)], limit=0)
    with pytest.raises(InputError, match="no sound files"):
        open_sounds([str(tmp_path)])
    (tmp_path / "a.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    with open_sounds([str(tmp_path)]) as source, pytest.raises(InputError, match="No sound could"):
        list(source)
