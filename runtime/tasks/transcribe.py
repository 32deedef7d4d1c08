"""Speech to text, greedily.

Fields: `text`, `duration_s`, and `windows`, one per 30 s of sound or less: `start_s`, `end_s`,
`text`, `silence` (the model's probability that nothing is said) and `whole` (false where the text
was cut at the model's limit of tokens, mostly because it repeats itself).

Rules:
    S1  Sound longer than a window is cut where it is quietest in the window's last third. No
        context goes from one window to the next, so a sentence may be lost between two.
    S2  There are no time stamps within a window, no other language than the model's, and no second
        try at another temperature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.audio import LogMel
from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import AudioPreprocess
from jetlift.runtime.sounds import SoundItem
from jetlift.runtime.tasks.base import Outcome, Task, place_of
from jetlift.runtime.tasks.greedy import GENERATION, GenerationFacts, GreedyDecoder
from jetlift.runtime.text import open_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item

    Floats = npt.NDArray[np.float32]

_QUIET_S, _STEP_S = 0.2, 0.02


class TranscribeTask(Task):
    """One text per sound.

    Args:
        bundle: A verified bundle of an encoder-decoder speech model.
        session: An open session of the encoder.
        others: Open sessions of the other parts, by part; the caller closes them.

    Raises:
        UsageError: A session is missing, or the bundle takes no sound.
        BundleError: An asset cannot be read.
        MissingPackageError: `tokenizers` is not installed.
    """

    name = "transcribe"

    def __init__(self, bundle: Bundle, session: Session, others: Mapping[str, Session]) -> None:
        facts = GenerationFacts.read(bundle.path(GENERATION))
        spec = bundle.part(facts.encoder)[1].preprocess
        missing = [name for name in (facts.cross, facts.decoder) if name not in others]
        if missing or not isinstance(spec, AudioPreprocess):
            raise UsageError(
                f"Task transcribe got no session of {', '.join(missing) or 'a part that hears'}",
                expected="Open sessions of every part of a speech model's bundle",
            )
        self._facts, self._encoder, self._cross = facts, session, others[facts.cross]
        self._log_mel = LogMel(spec, bundle.path(spec.filters))
        self._decoder = GreedyDecoder(others[facts.decoder], facts)
        self._tokenizer = open_tokenizer(bundle.path(facts.tokenizer))

    def process(self, item: Item) -> Outcome:
        """Transcribe one sound; see Task.process."""
        if not isinstance(item, SoundItem):
            raise UsageError("Task transcribe got no sound", expected="A sound file")
        samples = self._log_mel.prepare(item.sound)
        windows = [
            self._window(samples[start:end], start) for start, end in split(samples, self._spec)
        ]
        text = " ".join(window["text"] for window in windows if window["text"])
        told = {"text": text, "duration_s": round(item.sound.duration_s, 3), "windows": windows}
        return Outcome(place_of(item) | told, {})

    @property
    def _spec(self) -> AudioPreprocess:
        return self._log_mel.spec

    def _window(self, samples: Floats, start: int) -> dict[str, Any]:
        hidden = self._encoder.run({self._spec.input: self._log_mel.window(samples)})
        (decoded,) = self._decoder.decode(self._cross.run(hidden))
        rate_hz = self._spec.sample_rate_hz
        return {
            "start_s": round(start / rate_hz, 3),
            "end_s": round((start + len(samples)) / rate_hz, 3),
            "text": str(self._tokenizer.decode(list(decoded.tokens))).strip(),
            "silence": round(decoded.silence, 6),
            "whole": decoded.ended,
        }


def split(samples: Floats, spec: AudioPreprocess) -> list[tuple[int, int]]:
    """Where to cut a sound into windows (rule S1).

    Returns:
        First sample and end of each window; they follow each other without a gap.
    """
    windows, start = [], 0
    while len(samples) - start > spec.window_samples:
        end = start + spec.window_samples
        searched = start + spec.window_samples * 2 // 3
        end = searched + _quietest(samples[searched:end], spec.sample_rate_hz)
        windows.append((start, end))
        start = end
    return [*windows, (start, len(samples))]


def _quietest(samples: Floats, rate_hz: int) -> int:
    """The middle of the quietest stretch of 0.2 s."""
    step, length = int(_STEP_S * rate_hz), int(_QUIET_S * rate_hz)
    power = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(0, len(samples) - length + 1, step)
    return int(starts[np.argmin(power[starts + length] - power[starts])]) + length // 2
