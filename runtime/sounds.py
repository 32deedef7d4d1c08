"""Where sound comes from: files, folders and patterns of them, and microphones.

One file is one input; `index` is 0. A file that cannot be read is left out, counted and named in
`skipped`. Where nothing could be read, the end is an InputError. What a microphone hears is cut
into windows (jetlift.runtime.streams.microphone), numbered from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime import listing
from jetlift.runtime.audio import SUFFIXES, Sound, read_sound
from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.listing import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jetlift.runtime.streams.microphone import MicrophoneSource


@dataclass(frozen=True, eq=False)
class SoundItem:
    """One sound on its way to a task.

    Attributes:
        source: The file or microphone it comes from.
        index: 0, since a file is one sound; a window's number where it was heard.
        sound: Its waveform.
        time_s: Where a window begins, in seconds since the microphone was opened; None for a file.
        captured_s: When its last sample was recorded, by jetlift.runtime.clock; None for a file.
    """

    source: str
    index: int
    sound: Sound
    time_s: float | None = None
    captured_s: float | None = None


class SoundSource(Closing):
    """Sounds of the given files in order.

    Attributes:
        skipped: Files that could not be read in this iteration so far, and why.
        count: Number of files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self.count: int | None = len(self._paths)
        self.skipped: list[Skipped] = []

    def __iter__(self) -> Iterator[SoundItem]:
        self.skipped.clear()
        for path in self._paths:
            try:
                sound = read_sound(path)
            except InputError as error:
                self.skipped.append(Skipped(str(path), error.got))
            else:
                yield SoundItem(str(path), 0, sound)
        if len(self.skipped) == len(self._paths):
            raise InputError(
                f"No sound could be read ({'; '.join(item.reason for item in self.skipped[:3])})",
                expected="At least one whole sound file",
            )

    def close(self) -> None:
        """Nothing is held open: each file is read at once."""


def open_sounds(
    inputs: Sequence[str], *, limit: int | None = None
) -> SoundSource | MicrophoneSource:
    """Open the inputs of a run on sound.

    Args:
        inputs: Sound files, folders of them, or patterns; or one microphone, `mic`.
        limit: Take so many files or windows at most.

    Raises:
        InputError: One of them cannot be used.
        MachineError: A microphone cannot be read on this machine.
        UsageError: There are none, or a microphone and something else.
    """
    from jetlift.runtime.streams.opening import is_microphone

    if not inputs:
        raise UsageError("No input was named", expected="A sound file, or a folder of them")
    if limit is not None and limit < 1:
        raise UsageError(f"Got a limit of {limit} files", expected="At least 1")
    heard = [name for name in inputs if is_microphone(name) and not Path(name).exists()]
    if heard:
        if len(inputs) > 1:
            raise UsageError(
                f"Got {heard[0]} among {len(inputs)} inputs", expected="A microphone by itself"
            )
        from jetlift.runtime.streams.microphone import MicrophoneSource

        return MicrophoneSource(heard[0], limit=limit)
    paths = [
        path
        for name in inputs
        for path in listing.expand(
            name, what="sound files", in_folder=SUFFIXES, in_pattern=SUFFIXES
        )
    ]
    return SoundSource(paths[:limit])
