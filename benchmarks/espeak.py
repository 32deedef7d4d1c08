"""Speaks text with eSpeak NG, whose library and voices the package `espeakng-loader` ships.

eSpeak NG is a formant synthesiser: it sounds like a machine, and one package version makes the
same samples everywhere, so that a corpus it speaks can be made again and its hashes compared.
The functions and constants are those of its C interface, https://github.com/espeak-ng/espeak-ng,
src/include/espeak-ng/speak_lib.h.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import EngineLibraryError, MissingPackageError, UnknownNameError

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.int16]

# enum values of speak_lib.h
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_OK, _POSITION_CHARACTER, _CHARS_UTF8 = 0, 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True)
class Voice:
    """One way to speak.

    Attributes:
        name: eSpeak NG's language with, after a plus sign, a variant, as in 'en-gb+f2'.
        words_per_minute: Speed, 80 to 450.
        pitch: 0 to 99; 50 is normal.
        pitch_range: 0 (monotone) to 99; 50 is normal.
    """

    name: str
    words_per_minute: int = 175
    pitch: int = 50
    pitch_range: int = 50


class Espeak(Closing):
    """The synthesiser. A context manager; only one may be open in a process.

    Raises:
        MissingPackageError: `espeakng-loader` is not installed.
        EngineLibraryError: Its library cannot be loaded or does not start.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise MissingPackageError(
                "espeakng_loader", extra="dev", purpose="to speak the sentences of a corpus"
            ) from error
        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise EngineLibraryError(f"eSpeak NG cannot be loaded: {error}") from error
        data_path = espeakng_loader.get_data_path().encode()
        self.sample_rate_hz = int(
            self._library.espeak_Initialize(_SYNCHRONOUS, 0, data_path, _DONT_EXIT)
        )
        if self.sample_rate_hz <= 0:
            raise EngineLibraryError(
                "eSpeak NG does not start", expected=f"Its voices in {data_path.decode()}"
            )
        self._spoken: list[Samples] = []
        # Held here: the library keeps the pointer only.
        self._callback = _CALLBACK(self._take)
        self._library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if samples and count > 0:
            self._spoken.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(self, text: str, voice: Voice) -> Samples:
        """Speak a text.

        Returns:
            int16 [n] at `sample_rate_hz`.

        Raises:
            UnknownNameError: There is no such voice.
            EngineLibraryError: The library failed, or said nothing.
        """
        self._spoken = []
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != _OK:
            raise UnknownNameError(f"eSpeak NG has no voice {voice.name!r}")
        settings = ((_RATE, voice.words_per_minute), (_PITCH, voice.pitch))
        for parameter, value in (*settings, (_RANGE, voice.pitch_range)):
            self._check(self._library.espeak_SetParameter(parameter, value, 0))
        raw = text.encode()
        self._check(
            self._library.espeak_Synth(
                raw, ctypes.c_size_t(len(raw) + 1), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8,
                None, None,
            )
        )  # fmt: skip
        self._check(self._library.espeak_Synchronize())
        if not self._spoken:
            raise EngineLibraryError(f"eSpeak NG said nothing for {text!r}")
        return np.concatenate(self._spoken)

    @staticmethod
    def _check(status: int) -> None:
        if status != _OK:
            raise EngineLibraryError(f"eSpeak NG failed with error {status}")

    def close(self) -> None:
        """Give back the library's memory."""
        self._library.espeak_Terminate()
