"""Real speech through the real model on both CPU engines; and where long sound is cut."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.export.recipes.whisper import PREPROCESS
from jetlift.runtime.audio import Sound, read_sound
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.run import open_inputs, run_task
from jetlift.runtime.session import open_session
from jetlift.runtime.sounds import SoundItem, open_sounds
from jetlift.runtime.tasks import needs_every_part, open_task
from jetlift.runtime.tasks.transcribe import split
from jetlift.runtime.texts import TextItem

JFK = (
    "And so my fellow Americans ask not what your country can do for you, "
    "ask what you can do for your country."
)


@contextlib.contextmanager
def _task(bundle, target):
    with contextlib.ExitStack() as stack:
        encoder, cross, decoder = (
            stack.enter_context(open_session(bundle, part, "fp32", target=target))
            for part in ("encoder", "cross", "decoder")
        )
        others = {"cross": cross, "decoder": decoder}
        yield open_task("transcribe", bundle, encoder, precision="fp32", others=others)


@pytest.fixture(scope="module", params=["cpu", "cpu-onnxruntime"])
def task(whisper_bundle, request):
    with _task(whisper_bundle, request.param) as opened:
        yield opened


def test_the_real_recording_is_transcribed(task, speech):
    fields = task.run(SoundItem("jfk.flac", 0, read_sound(speech)))
    assert list(fields)[:3] == ["source", "index", "time_s"]
    assert fields["text"] == JFK
    assert fields["duration_s"] == pytest.approx(11.0, abs=0.01)
    (window,) = fields["windows"]
    assert window["text"] == JFK
    assert window["whole"]
    assert window["silence"] < 0.1


def test_sound_longer_than_a_window_is_transcribed_in_several(task, speech):
    once = read_sound(speech)
    pause = np.zeros(once.sample_rate_hz, np.float32)
    samples = np.concatenate([once.samples, pause] * 4)
    fields = task.run(SoundItem("long", 0, Sound(samples, once.sample_rate_hz)))
    windows = fields["windows"]
    assert windows[0]["start_s"] == 0
    assert windows[-1]["end_s"] == pytest.approx(fields["duration_s"], abs=0.001)
    assert all(a["end_s"] == b["start_s"] for a, b in itertools.pairwise(windows))
    assert len(windows) == 2
    assert fields["text"].lower().count("fellow americans") == 4


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
    assert summary.done == 1
    ((skipped, reason),) = summary.skipped
    assert skipped.endswith("b.wav")
    assert "damaged WAV" in reason


def test_the_command_line(whisper_bundle, speech):
    command = [sys.executable, "-m", "jetlift", "run", str(whisper_bundle.folder), str(speech)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == JFK


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


WINDOW, RATE = PREPROCESS.window_samples, PREPROCESS.sample_rate_hz


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4 * WINDOW), st.integers(0, 2**32 - 1))
def test_windows_follow_each_other_and_fit(count, seed):
    samples = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
    windows = split(samples, PREPROCESS)
    assert windows[0][0] == 0
    assert windows[-1][1] == count
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(windows))
    lengths = [end - start for start, end in windows]
    assert all(0 < length <= WINDOW for length in lengths)
    assert all(length > WINDOW * 2 // 3 for length in lengths[:-1])


def test_the_cut_lies_in_the_pause():
    samples = np.ones(2 * WINDOW, np.float32)
    pause_s = 23.0
    start = int(pause_s * RATE)
    samples[start : start + RATE // 2] = 0
    (_, cut), *_ = split(samples, PREPROCESS)
    assert start < cut < start + RATE // 2
