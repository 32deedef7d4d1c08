"""From a sound file to the log-mel picture of a part, the same here, on the board and in samples.

Rules:
    A1  WAV (PCM of 8 to 32 bit, float of 32 or 64) is read here; everything else that libsndfile
        knows (FLAC, Ogg, MP3, AIFF, …) is read by the package `soundfile`, where it is installed.
    A2  Sound is mono float32 of about -1..1: channels are averaged. One sample that is NaN or
        infinite refuses the file.
    A3  Another sampling rate is changed by a band-limited filter (see `resample`); the right rate
        leaves the samples as they are.
    A4  The log-mel picture equals WhisperFeatureExtractor of Hugging Face transformers 5.23:
        Hann window, reflected edges, power, mel bands, log10 with a floor 8 below the loudest
        value of the window, (x + 4) / 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime import wav
from jetlift.runtime.errors import BundleError, InputError, MissingPackageError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from jetlift.runtime.manifest import AudioPreprocess

    Floats = npt.NDArray[np.float32]

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".mp3", ".aiff", ".aif", ".opus"})
_LEAST_RATE_HZ, _MOST_RATE_HZ = 1_000, 192_000
_ZERO_CROSSINGS, _KAISER_BETA, _ROLLOFF = 32, 9.0, 0.945
_LEAST_POWER = 1e-10


@dataclass(frozen=True, eq=False)
class Sound:
    """A mono waveform.

    Attributes:
        samples: float32 [n], about -1..1.
        sample_rate_hz: Samples per second.
    """

    samples: Floats
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz


def read_sound(path: Path | str) -> Sound:
    """Read a sound file (rules A1 and A2).

    Raises:
        InputError: There is no such file, or it is no sound that can be read.
        MissingPackageError: It is no WAV file and `soundfile` is not installed.
    """
    path = Path(path)
    try:
        with path.open("rb") as handle:
            is_wav = wav.is_wav(handle.read(wav.HEAD_BYTES))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    channels, rate_hz = wav.read(path) if is_wav else _by_soundfile(path)
    if not _LEAST_RATE_HZ <= rate_hz <= _MOST_RATE_HZ:
        raise InputError(
            f"{path} has {rate_hz} samples per second",
            expected=f"{_LEAST_RATE_HZ} to {_MOST_RATE_HZ}",
        )
    if channels.size == 0:
        raise InputError(f"{path} holds no sound", expected="At least one sample")
    if not np.isfinite(channels).all():
        raise InputError(f"{path} has samples that are NaN or infinite", expected="Finite samples")
    samples = channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1, dtype=np.float64)
    return Sound(np.ascontiguousarray(samples, np.float32), rate_hz)


def _by_soundfile(path: Path) -> tuple[Floats, int]:
    """Samples [n, channels] and their rate, by libsndfile (rule A1)."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: it is there and libsndfile is not
        missing = MissingPackageError(
            "soundfile", extra="audio", purpose=f"to read {path.name}, which is no WAV file"
        )
        missing.do = f"{missing.do} or make it a WAV file first: ffmpeg -i {path} sound.wav"
        missing.args = (f"{missing.got}. {missing.do}",)
        raise missing from error
    try:
        samples, rate_hz = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise InputError(
            f"{path} is no sound that can be read: {error}",
            expected="WAV, FLAC, Ogg, MP3 or another format of libsndfile",
            do=f"Convert it: ffmpeg -i {path} sound.wav",
        ) from error
    return np.asarray(samples, np.float32), int(rate_hz)


def resample(samples: Floats, from_hz: int, to_hz: int) -> Floats:
    """Change the sampling rate (rule A3).

    Windowed-sinc interpolation (J. O. Smith, https://ccrma.stanford.edu/~jos/resample/): 32 zero
    crossings per side, Kaiser window with beta 9, cut off at 0.945 of the lower Nyquist frequency.

    Args:
        samples: float32 [n].
        from_hz: Their rate.
        to_hz: The rate asked for.

    Returns:
        float32 [ceil(n * to_hz / from_hz)]; silence is taken to lie before and behind the sound.
    """
    if from_hz == to_hz:
        return samples
    divisor = math.gcd(from_hz, to_hz)
    up, down = to_hz // divisor, from_hz // divisor
    bank = _filter_bank(up, down)
    reach = bank.shape[1] // 2 - 1
    padded = np.pad(samples, (reach, reach + 1))
    around = np.lib.stride_tricks.sliding_window_view(padded, bank.shape[1])
    made = np.empty(-(-len(samples) * up // down), np.float32)
    # Every up-th sample lies equally between its neighbours, so it takes the same coefficients.
    for first in range(min(up, len(made))):
        whole, phase = divmod(first * down, up)
        made[first::up] = around[whole::down] @ bank[phase]
    return made


@lru_cache(maxsize=4)
def _filter_bank(up: int, down: int) -> Floats:
    """Coefficients [phases, taps]: what the samples around a place add to it.

    The middle pair is the samples before and behind; a phase is the way between the two.
    """
    cutoff = min(1.0, up / down) * _ROLLOFF
    reach = math.ceil(_ZERO_CROSSINGS / cutoff)
    away = np.arange(-reach, reach + 2)[None, :] - (np.arange(up) / up)[:, None]
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (away / (reach + 1)) ** 2, 0, None)))
    kernel = cutoff * np.sinc(cutoff * away) * window / np.i0(_KAISER_BETA)
    return kernel.astype(np.float32)


class LogMel:
    """The preprocessing of a part that takes sound (rule A4).

    Args:
        spec: What the manifest says of it.
        filters_path: The mel filter bank, .npy float [mel bins, n_fft / 2 + 1].

    Raises:
        BundleError: The filter bank is not of this form.
    """

    def __init__(self, spec: AudioPreprocess, filters_path: Path) -> None:
        self.spec = spec
        self._filters = _read_filters(filters_path, spec.n_fft // 2 + 1)
        # The periodic form, as spectrograms use it.
        self._hann = np.hanning(spec.n_fft + 1)[:-1]

    def prepare(self, sound: Sound) -> Floats:
        """Samples of a sound at the part's rate."""
        return resample(sound.samples, sound.sample_rate_hz, self.spec.sample_rate_hz)

    def window(self, samples: Floats) -> Floats:
        """One window of sound as the part takes it.

        Args:
            samples: float32 [n] at the part's rate; silence is added up to a whole window.

        Returns:
            float32 [1, mel bins, window_samples / hop_length].

        Raises:
            UsageError: There is more than a window, or nothing.
        """
        spec = self.spec
        if not 0 < len(samples) <= spec.window_samples:
            raise UsageError(
                f"Got {len(samples)} samples", expected=f"1 to {spec.window_samples} for one window"
            )
        padded = np.pad(samples.astype(np.float64), (0, spec.window_samples - len(samples)))
        edge = spec.n_fft // 2
        around = np.pad(padded, edge, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(around, spec.n_fft)[:: spec.hop_length]
        count = spec.window_samples // spec.hop_length
        heard = self._frames_heard(len(samples), count)
        power = np.abs(np.fft.rfft(frames[:heard] * self._hann, axis=1)) ** 2
        mel = np.full((len(self._filters), count), np.log10(_LEAST_POWER))
        mel[:, :heard] = np.log10(np.maximum(self._filters @ power.T, _LEAST_POWER))
        scaled = (np.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0
        return np.asarray(scaled[None], np.float32)

    def _frames_heard(self, samples: int, count: int) -> int:
        """How many frames from the first reach into the sound; behind them is added silence."""
        edge = self.spec.n_fft // 2
        if samples > self.spec.window_samples - edge - 1:  # the end is mirrored
            return count
        return min(count, -(-(edge + samples) // self.spec.hop_length))


def _read_filters(path: Path, frequencies: int) -> npt.NDArray[Any]:
    try:
        filters = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleError(f"{path.name} cannot be read as a filter bank: {error}") from error
    is_bank = isinstance(filters, np.ndarray) and filters.ndim == 2 and filters.dtype.kind == "f"
    if not is_bank or filters.shape[1] != frequencies:
        raise BundleError(
            f"{path.name} holds {getattr(filters, 'dtype', '')}{list(np.shape(filters))}",
            expected=f"A mel filter bank, float [mel bins, {frequencies}]",
        )
    return np.asarray(filters, np.float64)
