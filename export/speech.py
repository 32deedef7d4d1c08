"""Samples of speech: a folder of sound files, each with its words in a .txt file of the same name.

Files come in order of their names. A sound file without words, words without a sound file, and
sound longer than the part's window are refused: figures must be of all that is there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.audio import SUFFIXES, LogMel, read_sound
from jetlift.runtime.errors import InputError
from jetlift.runtime.listing import natural_key

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from jetlift.export.samples import ItemContext
    from jetlift.runtime.manifest import AudioPreprocess


@dataclass(frozen=True, eq=False)
class Utterance:
    """One sample of speech.

    Attributes:
        digest: SHA-256 of the file's bytes and the words.
        log_mel: float32 [1, mel bins, frames], as the encoder takes it.
        text: What is said, in the transcriber's own words.
    """

    digest: str
    log_mel: npt.NDArray[np.float32]
    text: str


def read_utterances(context: ItemContext, spec: AudioPreprocess) -> list[Utterance]:
    """Read a folder of speech.

    Args:
        context: The folder, and the bundle whose filter bank prepares the sound.
        spec: How the encoder wants it.

    Raises:
        InputError: A file cannot be used, or there are none.
    """
    if not context.folder.is_dir():
        raise InputError(f"{context.folder} is no folder", expected="A folder with speech")
    log_mel = LogMel(spec, context.bundle_folder / spec.filters)
    return [_read(path, log_mel) for path in _sounds(context.folder)]


def _sounds(folder: Path) -> list[Path]:
    files = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    sounds = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not sounds:
        raise InputError(
            f"{folder} has no sound file",
            expected="Sound files, each with its words in a .txt file of the same name",
        )
    stems = [path.stem for path in sounds]
    texts = {path.stem for path in files if path.suffix == ".txt"}
    alone = sorted(set(stems) ^ texts) or [stem for stem in stems if stems.count(stem) > 1]
    if alone:
        raise InputError(
            f"{folder} has {alone[0]!r} without its words, without its sound, or twice",
            expected="For each sound file one .txt file of the same name, and no other",
        )
    return sounds


def _read(path: Path, log_mel: LogMel) -> Utterance:
    words = path.with_suffix(".txt")
    try:
        text, content = words.read_text(encoding="utf-8").strip(), path.read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{words} or its sound cannot be read: {error}") from error
    if not any(char.isalnum() for char in text):
        raise InputError(f"{words} has no word", expected="What is said in the sound file")
    sound, spec = read_sound(path), log_mel.spec
    samples, limit_s = log_mel.prepare(sound), spec.window_samples / spec.sample_rate_hz
    if len(samples) > spec.window_samples:
        raise InputError(
            f"{path} lasts {sound.duration_s:.1f} s",
            expected=f"Samples of speech that fit in one window of {limit_s:g} s",
            do="Cut it between words, and its .txt file with it",
        )
    digest = hashlib.sha256(content + b"\0" + text.encode()).hexdigest()
    return Utterance(digest, log_mel.window(samples), text)
