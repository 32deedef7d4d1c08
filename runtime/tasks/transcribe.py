"""Speech to text, with what was said when, in whatever language.

Fields: `text`, `language` (null where it was neither given nor heard), `duration_s`, `segments` of
`start_s`, `end_s`, `text`, and `windows`, one per 30 s of sound or less that the model heard:
`start_s`, `end_s`, `silence` (its probability that nothing is said), `average_logprob` and
`compression` (see `utterance`), `temperature`, `whole` (false where the words were cut at the limit
of tokens) and `dropped` (true where they were taken for silence). Each sound also gives captions:
.srt, .vtt, .json.

Rules:
    S1  Only stretches that may be speech are heard (see `voice`). A window lasts 30 s at most and
        never reaches over a pause of the length that parts two stretches; the next one begins where
        the last whole segment of this one ended.
    S2  A window takes SHORTEST_STEP_S at least, so that the loop ends whatever the model says. Less
        than TAIL_S left of a stretch is the end of its last word, unless words were left out.
    S3  Segments never overlap nor reach behind the end of their window. One that would begin there
        is left out, since there is nothing to be heard.
    S4  The language is the one asked for, else the one detected in the first window in which
        something is said; it then holds for the whole sound. A model of English alone takes no
        language and does not translate.
    S5  No words go from one window to the next as context: an error could repeat itself for ever.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jetlift.runtime import captions
from jetlift.runtime.audio import LogMel
from jetlift.runtime.captions import Segment
from jetlift.runtime.errors import UsageError
from jetlift.runtime.languages import WITHOUT_SPACES, language_code
from jetlift.runtime.manifest import AudioPreprocess
from jetlift.runtime.sounds import SoundItem
from jetlift.runtime.tasks.base import Outcome, Task, place_of
from jetlift.runtime.tasks.greedy import GENERATION, GenerationFacts
from jetlift.runtime.tasks.timestamps import read_stamps
from jetlift.runtime.tasks.utterance import TEMPERATURES, Utterance, UtteranceDecoder
from jetlift.runtime.text import open_tokenizer
from jetlift.runtime.voice import voiced

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item

    Floats = npt.NDArray[np.float32]

SHORTEST_STEP_S, TAIL_S = 1.0, 1.0
_HOPS_PER_STAMP = 2  # the encoder halves the frames


class TranscribeTask(Task):
    """One text per sound.

    Args:
        bundle: A verified bundle of an encoder-decoder speech model.
        session: An open session of the encoder.
        others: Open sessions of the other parts, by part; the caller closes them.
        language: Code or English name of what is spoken; None to have it detected.
        translate: Give the words in English.
        temperatures: Tries at a window's words (rule U1 of `utterance`).

    Raises:
        UsageError: A session is missing, the bundle takes no sound, or a model of English alone is
            asked for another language.
        UnknownNameError: There is no such language.
        BundleError: An asset cannot be read.
        MissingPackageError: `tokenizers` is not installed.
    """

    name = "transcribe"

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        others: Mapping[str, Session],
        *,
        language: str | None = None,
        translate: bool = False,
        temperatures: Sequence[float] = TEMPERATURES,
    ) -> None:
        facts = GenerationFacts.read(bundle.path(GENERATION))
        spec = bundle.part(facts.encoder)[1].preprocess
        missing = [name for name in (facts.cross, facts.decoder) if name not in others]
        if missing or not isinstance(spec, AudioPreprocess):
            raise UsageError(
                f"Task transcribe got no session of {', '.join(missing) or 'a part that hears'}",
                expected="Open sessions of every part of a speech model's bundle",
            )
        self._language = _checked(facts, bundle.manifest.model, language, translate=translate)
        self._translate = translate
        self._encoder, self._cross = session, others[facts.cross]
        self._log_mel = LogMel(spec, bundle.path(spec.filters))
        self._tokenizer = open_tokenizer(bundle.path(facts.tokenizer))
        self._first_stamp = facts.first_stamp
        self._decoder = UtteranceDecoder(
            others[facts.decoder], facts, self._text_of,
            translate=translate, temperatures=temperatures,
        )  # fmt: skip

    def process(self, item: Item) -> Outcome:
        """Transcribe one sound; see Task.process."""
        if not isinstance(item, SoundItem):
            raise UsageError("Task transcribe got no sound", expected="A sound file")
        samples = self._log_mel.prepare(item.sound)
        heard = _Heard(self._language)
        for start, end in self._windows(samples, heard):
            found = self._utterance(samples[start:end], heard.language)
            self._take(heard, found, start / self._rate_hz, end / self._rate_hz)
        separator = " " if self._translate or heard.language not in WITHOUT_SPACES else ""
        fields = place_of(item) | {
            "text": separator.join(segment.text for segment in heard.segments),
            "language": heard.language,
            "duration_s": round(item.sound.duration_s, 3),
            "segments": [asdict(segment) for segment in heard.segments],
            "windows": heard.windows,
        }
        files = {
            ".srt": captions.srt(heard.segments),
            ".vtt": captions.vtt(heard.segments),
            ".json": captions.as_json(fields),
        }
        return Outcome(fields, {}, files)

    @property
    def _rate_hz(self) -> int:
        return self._log_mel.spec.sample_rate_hz

    def _text_of(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens)))

    def _windows(self, samples: Floats, heard: _Heard) -> Iterator[tuple[int, int]]:
        """First sample and end of each window, as far as the last one was heard (rules S1, S2)."""
        rate_hz, length = self._rate_hz, self._log_mel.spec.window_samples
        for first, end in voiced(samples, rate_hz):
            start, tail = first, 0
            while end - start > tail:
                yield start, min(start + length, end)
                start = round(heard.until_s * rate_hz)
                tail = 0 if heard.goes_on else round(TAIL_S * rate_hz)

    def _utterance(self, samples: Floats, language: str | None) -> Utterance:
        hidden = self._encoder.run({self._log_mel.spec.input: self._log_mel.window(samples)})
        return self._decoder.decode(self._cross.run(hidden), language)

    def _take(self, heard: _Heard, found: Utterance, start_s: float, end_s: float) -> None:
        """Note what a window says, and how far it was heard (rules S1 to S3)."""
        spec, best = self._log_mel.spec, found.best
        stamp_s = _HOPS_PER_STAMP * spec.hop_length / spec.sample_rate_hz
        window_s = spec.window_samples / spec.sample_rate_hz
        reading = read_stamps(best.tokens, self._first_stamp)
        step_s = window_s if reading.heard is None else reading.heard * stamp_s
        if found.nothing_said:
            step_s = window_s
        else:
            heard.language = found.language or heard.language
            for piece in reading.pieces:
                last_s = end_s if piece.end is None else start_s + piece.end * stamp_s
                text = self._text_of(piece.tokens).strip()
                heard.say(start_s + piece.start * stamp_s, min(last_s, end_s), text)
        heard.until_s = start_s + max(step_s, SHORTEST_STEP_S)
        heard.goes_on = reading.goes_on and not found.nothing_said
        heard.windows.append(_described(found, start_s, end_s))


class _Heard:
    """What was heard of one sound so far.

    Attributes:
        language: The language that holds, once it is known (rule S4).
        until_s: Up to where it was heard.
        goes_on: Whether words behind that were left out.
        segments: What was said.
        windows: A line on each window.
    """

    def __init__(self, language: str | None) -> None:
        self.language, self.until_s, self.goes_on = language, 0.0, False
        self.segments: list[Segment] = []
        self.windows: list[dict[str, Any]] = []

    def say(self, start_s: float, end_s: float, text: str) -> None:
        """Add a segment (rule S3)."""
        before_s = self.segments[-1].end_s if self.segments else 0.0
        start_s = max(start_s, before_s)
        if text and start_s < end_s:
            self.segments.append(Segment(round(start_s, 3), round(end_s, 3), text))


def _described(found: Utterance, start_s: float, end_s: float) -> dict[str, Any]:
    best, told = found.best, {"start_s": round(start_s, 3), "end_s": round(end_s, 3)}
    if found.language_probability is not None:
        told["language_probability"] = round(found.language_probability, 6)
    return told | {
        "silence": round(found.silence, 6),
        "average_logprob": round(best.average_logprob, 6),
        "compression": round(best.compression, 3),
        "temperature": best.temperature,
        "whole": best.ended,
        "dropped": found.nothing_said,
    }


def _checked(
    facts: GenerationFacts, model: str, language: str | None, *, translate: bool
) -> str | None:
    """The code of the language to begin with (rule S4)."""
    if facts.languages is not None:
        return None if language is None else language_code(language, facts.languages)
    if language is not None or translate:
        asked = "--translate" if translate else f"--language {language}"
        raise UsageError(
            f"{model} got {asked}, but it was trained on English alone and has no token for that",
            expected="English speech, without --language and --translate",
            do="Export a multilingual model, as in whisper-tiny or whisper-large-v3-turbo",
        )
    return "en"


def open_from(
    bundle: Bundle,
    session: Session,
    _precision: str,
    _part: str | None,
    *,
    others: Mapping[str, Session] | None = None,
    language: str | None = None,
    translate: bool = False,
) -> Task:
    """The task on sessions of all parts; see open_task."""
    return TranscribeTask(bundle, session, others or {}, language=language, translate=translate)
