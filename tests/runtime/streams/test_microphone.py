"""A microphone whose arecord is a script that plays a WAV file: a test machine hears nothing."""

from __future__ import annotations

import stat
import sys
import threading
import wave
from pathlib import Path

import numpy as np
import pytest

from jetlift.runtime.errors import InputError, MachineError, UsageError
from jetlift.runtime.sounds import open_sounds
from jetlift.runtime.streams import microphone
from jetlift.runtime.streams.microphone import MicrophoneSource
from jetlift.runtime.streams.reservoir import Chunk, Reservoir

RATE = 16_000
PLAYER = """#!{python}
import os, sys, time, wave
arguments = dict(zip(sys.argv[1:], sys.argv[2:]))
assert arguments["-f"] == "S16_LE" and arguments["-c"] == "1" and arguments["-t"] == "raw"
assert arguments["-r"] == "{rate}", arguments
with open({log!r}, "a") as log:
    log.write(arguments["-D"] + "\\n")
with wave.open({path!r}) as played:
    while content := played.readframes({rate} // 10):
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        time.sleep(0.1 / {speed})
{end}
"""


def noise(seconds: float, level: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, round(seconds * RATE))


class Player:
    """An arecord on PATH."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        monkeypatch.setenv("PATH", str(folder))

    def plays(self, samples: np.ndarray, *, speed: float = 50, end: str = "") -> None:
        path = self.folder / "played.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        self.runs(
            PLAYER.format(
                python=sys.executable, rate=RATE, path=str(path), speed=speed, end=end,
                log=str(self.folder / "log"),
            )
        )  # fmt: skip

    def runs(self, script: str) -> None:
        program = self.folder / "arecord"
        program.write_text(script)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    @property
    def devices(self) -> list[str]:
        return (self.folder / "log").read_text().split()


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Player:
    return Player(tmp_path, monkeypatch)


TWO_WORDS = np.concatenate(
    [noise(3, 1e-4), noise(1, 0.1), noise(3, 1e-4), noise(2, 0.1), noise(3, 1e-4)]
)


def test_words_become_windows(player):
    player.plays(TWO_WORDS)
    with MicrophoneSource("mic://hw:1,0") as source:
        items = list(source)
    assert [item.index for item in items] == [0, 1]
    assert [item.source for item in items] == ["mic://hw:1,0"] * 2
    times_s = [(item.time_s, item.sound.duration_s) for item in items]
    np.testing.assert_allclose(times_s, [(2.5, 2), (6.5, 3)], atol=0.3)
    for item in items:
        start = round(item.time_s * RATE)
        wanted = TWO_WORDS[start : start + len(item.sound.samples)]
        np.testing.assert_allclose(item.sound.samples, wanted, atol=1e-4)
    assert items[0].captured_s < items[1].captured_s
    assert player.devices == ["hw:1,0"]
    health = source.health()
    assert (health.captured, health.reconnects, source.lost_samples) == (2, 0, 0)
    assert health.clock == "when the last sample of a window was recorded"


def test_a_limit_ends_it(player):
    player.plays(TWO_WORDS)
    with open_sounds(["mic"], limit=1) as source:
        assert len(list(source)) == 1
    assert player.devices == ["default"]


def test_a_microphone_that_does_not_open_says_so_in_arecords_words(player):
    player.runs("#!/bin/sh\necho 'audio open error: No such file or directory' >&2\nexit 1\n")
    with pytest.raises(InputError, match=r"does not open: audio open error.*arecord -L"):
        list(MicrophoneSource("mic"))


def test_a_microphone_that_is_lost_is_healed_and_the_gap_is_in_no_window(player):
    word = np.concatenate([noise(2, 1e-4), noise(1, 0.1)])  # unplugged in the middle of a word
    player.plays(word, end="print('read error: unplugged', file=sys.stderr); sys.exit(1)")
    source = MicrophoneSource("mic", limit=2)
    first, second = list(source)
    assert second.time_s > first.time_s + first.sound.duration_s
    health = source.health()
    assert health.reconnects >= 1
    assert health.lost_s > 0
    assert health.trouble == "read error: unplugged"
    source.close()


def test_it_gives_up_after_the_time_that_was_set(player):
    player.plays(noise(0.2, 0.1), end="sys.exit(1)")
    script = (player.folder / "arecord").read_text()
    once = "import os, sys\nif os.path.exists({0!r}): sys.exit(3)\nopen({0!r}, 'w').close()\n"
    marker = once.format(str(player.folder / "ran"))
    player.runs(script.replace("import os, sys, time, wave\n", f"{marker}import time, wave\n"))
    with pytest.raises(InputError, match="is lost: arecord ended"):
        list(MicrophoneSource("mic?retry=0.1"))


def test_closing_ends_it_while_nobody_speaks(player):
    player.plays(noise(600, 1e-4), speed=10)
    source = MicrophoneSource("mic")
    threading.Timer(0.3, source.close).start()
    assert list(source.frames()) == []
    source._thread.join(20)  # type: ignore[union-attr]
    assert not source._thread.is_alive()  # type: ignore[union-attr]


def test_closing_before_the_start_opens_nothing(player):
    player.plays(TWO_WORDS)
    source = MicrophoneSource("mic")
    source.close()
    assert list(source.frames()) == []
    assert not (player.folder / "log").exists()


def test_sound_that_nobody_takes_in_time_is_lost_and_counted(player, monkeypatch):
    monkeypatch.setattr(microphone, "ROOM_S", 1.0)
    player.plays(np.concatenate([noise(1, 1e-4), noise(1, 0.1), noise(2, 1e-4)] * 3), speed=100)
    source = MicrophoneSource("mic")
    frames = source.frames()
    next(frames)
    source._thread.join(20)  # type: ignore[union-attr]  # it records all the rest meanwhile
    rest = list(frames)
    assert source.lost_samples > 5 * RATE
    assert all(item.sound.duration_s < 3 for item in rest)


@pytest.mark.usefixtures("player")  # which has no program yet
def test_without_arecord_it_says_how_to_install_it():
    with pytest.raises(MachineError, match="apt-get install alsa-utils"):
        MicrophoneSource("mic")


@pytest.mark.parametrize("name", ["mic?rate=1", "mic?speed=3", "mic?longest=0", "micro"])
def test_what_cannot_be_is_refused(player, name):
    player.plays(TWO_WORDS)
    with pytest.raises(UsageError, match="mic"):
        MicrophoneSource(name)


def test_a_microphone_stands_by_itself(player):
    player.plays(TWO_WORDS)
    with pytest.raises(UsageError, match="by itself"):
        open_sounds(["mic", "a.wav"])


def test_a_reservoir_says_what_is_missing():
    reservoir = Reservoir(10)
    for number in range(5):
        reservoir.put(Chunk(np.full(4, number, np.float32), float(number), missing=1))
    first, second = reservoir.take(), reservoir.take()
    assert (first.samples[0], first.missing) == (3, 3 * 4 + 4)
    assert (second.samples[0], second.missing) == (4, 1)
    assert reservoir.lost == 12
    with reservoir:
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        reservoir.take()
    assert reservoir.take() is None


def test_a_chunk_larger_than_the_room_is_kept():
    reservoir = Reservoir(1)
    reservoir.put(Chunk(np.zeros(4, np.float32), 0.0))
    assert reservoir.take().missing == 0
