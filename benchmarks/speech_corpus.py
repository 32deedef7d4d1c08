"""Speaks a corpus of sentences in many voices, to measure transcription where there is no data set.

    python -m jetlift.benchmarks.speech_corpus -o DIR [--count 264]

DIR gets, per utterance, a 16 kHz mono WAV file and its words in a .txt file of the same name, and
`corpus.json`, which lists voice, text and SHA-256 of each. The sentences are Python's own language
reference (PSF licence), the voices eSpeak NG's: made speech, harder for a model than its word error
rate on people, and the same on every machine with one version of Python and of espeakng-loader.

Rules:
    P1  Voices take turns, so that any run of utterances hears all of them.
    P2  All is spoken in one process of its own, in order: the synthesiser carries a state from one
        utterance to the next, and only so the same samples come out every time.
    P3  The folder appears whole or not at all.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import multiprocessing
import platform
import random
import sys
import wave
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.benchmarks.espeak import Espeak, Voice
from jetlift.benchmarks.sentences import LICENCE, spoken_sentences
from jetlift.runtime import atomic
from jetlift.runtime.audio import resample
from jetlift.runtime.errors import JetliftError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
COUNT = 264
CORPUS_NAME = "corpus.json"
_SEED = 1

# An odd number, so that every other utterance hears all of them as well. eSpeak NG 1.52 has more,
# of which f2, f3, f5 and victor come out different every time, and of some Whisper hardly
# understands a word.
VOICES = (
    Voice("en-us+edward", 140, 45),
    Voice("en", 140, 50),
    Voice("en-us+adam", 145, 45),
    Voice("en-gb-x-rp", 135, 45),
    Voice("en-us+michael", 140, 45),
    Voice("en+m3", 145, 40),
    Voice("en-us+robert", 140, 50),
    Voice("en-us-nyc", 135, 45),
    Voice("en-us+benjamin", 140, 40),
    Voice("en-us", 150, 50),
    Voice("en-us+marco", 140, 45),
    Voice("en-us+steph", 135, 55),
    Voice("en-us+m7", 145, 45),
)


def write_corpus(out: Path, count: int = COUNT) -> Path:
    """Speak `count` sentences into a new folder.

    Raises:
        UsageError: There are not so many sentences.
        MissingPackageError: `espeakng-loader` is not installed.
        EngineLibraryError: The synthesiser failed.
        StorageError: The folder cannot be written.
    """
    plan = utterances(count)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:  # P2
        spoken = pool.submit(_speak_all, plan).result()
    with atomic.folder_aside(out) as aside:
        entries = [
            _write(aside, number, text, voice, samples)
            for number, ((text, voice), samples) in enumerate(zip(plan, spoken, strict=True))
        ]
        told = {
            "sentences": f"pydoc_data.topics of Python {platform.python_version()}",
            "licence": LICENCE,
            "synthesiser": f"espeakng-loader {importlib.metadata.version('espeakng-loader')}",
            "sample_rate_hz": SAMPLE_RATE_HZ,
            "utterances": entries,
        }
        (aside / CORPUS_NAME).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return out


def utterances(count: int) -> list[tuple[str, Voice]]:
    """The sentences in seeded order, each with its voice (rule P1).

    Raises:
        UsageError: There are not so many sentences.
    """
    texts = spoken_sentences()
    if not 1 <= count <= len(texts):
        raise UsageError(f"Asked for {count} utterances", expected=f"1 to {len(texts)}")
    # Topics come in runs of near-equal sentences; shuffled, each split hears all topics.
    random.Random(_SEED).shuffle(texts)  # noqa: S311 - no secret
    return [(text, VOICES[number % len(VOICES)]) for number, text in enumerate(texts[:count])]


def _speak_all(plan: Sequence[tuple[str, Voice]]) -> list[npt.NDArray[np.int16]]:
    with Espeak() as espeak:
        return [
            _to_16_khz(espeak.speak(text, voice), espeak.sample_rate_hz) for text, voice in plan
        ]


def _to_16_khz(samples: npt.NDArray[np.int16], rate_hz: int) -> npt.NDArray[np.int16]:
    changed = resample(samples.astype(np.float32), rate_hz, SAMPLE_RATE_HZ)
    return np.clip(np.rint(changed), -32768, 32767).astype(np.int16)


def _write(
    folder: Path, number: int, text: str, voice: Voice, samples: npt.NDArray[np.int16]
) -> dict[str, Any]:
    path = folder / f"utterance_{number:04d}.wav"
    with wave.open(str(path), "wb") as handle:
        handle.setnchannels(1)
        handle.setsampwidth(2)
        handle.setframerate(SAMPLE_RATE_HZ)
        handle.writeframes(samples.astype("<i2").tobytes())
    path.with_suffix(".txt").write_text(f"{text}\n", encoding="utf-8")
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "voice": voice.name,
        "words_per_minute": voice.words_per_minute,
        "pitch": voice.pitch,
        "text": text,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Speak what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="speech_corpus", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="new folder for the corpus")
    parser.add_argument("--count", type=int, default=COUNT, help=f"utterances (default {COUNT})")
    asked = parser.parse_args(arguments)
    try:
        folder = write_corpus(asked.out, asked.count)
    except JetliftError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    words = sum(len(text.split()) for text, _ in utterances(asked.count))
    print(f"{asked.count} utterances, {words} words, {len(VOICES)} voices. Written: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
