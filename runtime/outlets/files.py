"""Results as lines of JSON, arrays and pictures, for runs without an end too.

Rules:
    I1  Every Nth picture is kept. Those of a live source lie in numbered folders of PER_FOLDER,
        since folders with very many files are slow everywhere; numbers go on behind those that are
        there. Those of files lie in the one folder.
    I2  A picture's name begins with its source and has the frame's number, as `index` in the other
        results.
    I3  Pictures that the task itself made are kept, all of them, beside the drawn ones.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import UsageError
from jetlift.runtime.outlets.file_sink import (
    PartedSink,
    drawn_picture,
    is_live,
    named,
    source_stem,
)
from jetlift.runtime.outlets.parts import Keeper, Naming, Parts, Rotation
from jetlift.runtime.pipeline.form import SinkHealth
from jetlift.runtime.sinks import JsonlSink, NpzSink, PictureSink

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.pipeline.form import Result

PER_FOLDER = 1000


class _Wrapped:
    """What parts around a sink of `sinks` have in common."""

    def __init__(self, inner: JsonlSink | NpzSink) -> None:
        self._inner = inner

    @property
    def size_bytes(self) -> int:
        """See Part.size_bytes."""
        return self._inner.size_bytes

    def fits(self, result: Result) -> bool:
        """See Part.fits."""
        del result
        return True

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inner.__exit__(kind, error, trace)


class JsonlPart(_Wrapped):
    """One file of JSON lines; see `file_sink.Part`."""

    def __init__(self, path: Path) -> None:
        self._lines = JsonlSink(path)
        super().__init__(self._lines)

    def put(self, result: Result) -> None:
        """See Part.put."""
        self._lines.write(result.outcome.fields)


class ArraysPart(_Wrapped):
    """One file of arrays; see `file_sink.Part`. Arrays of another shape begin another."""

    def __init__(self, path: Path) -> None:
        self._arrays = NpzSink(path)
        self._forms: dict[str, tuple[Any, ...]] | None = None
        super().__init__(self._arrays)

    def fits(self, result: Result) -> bool:
        """See Part.fits."""
        return self._forms is None or self._forms == _forms(result)

    def put(self, result: Result) -> None:
        """See Part.put."""
        fields, arrays = result.outcome.fields, result.outcome.arrays
        if not arrays:
            raise UsageError(
                f"The task's results have {', '.join(fields)} and no arrays",
                expected="A task with arrays, such as embed, search or anomaly",
                do="Send its results elsewhere, as to results.jsonl",
            )
        self._forms = _forms(result)
        self._arrays.write(fields["source"], fields["index"], fields["time_s"], arrays)


def jsonl_sink(
    path: Path, *, rotation: Rotation | None = None, clock: Clock = SYSTEM_CLOCK
) -> PartedSink:
    """A sink that writes JSON lines."""
    return PartedSink("jsonl", Parts(path, rotation or Rotation(), clock), JsonlPart)


def arrays_sink(
    path: Path, *, rotation: Rotation | None = None, clock: Clock = SYSTEM_CLOCK
) -> PartedSink:
    """A sink that writes arrays."""
    return PartedSink("arrays", Parts(path, rotation or Rotation(), clock), ArraysPart)


class PicturesSink:
    """Annotated pictures in a folder (rules I1 to I3). See `Sink`.

    Args:
        folder: Made where it is missing.
        label: What is drawn, as in `detect`; part of each name.
        every: One picture in so many is kept.
        suffix: `.jpg` or `.png`.
        keep_bytes: Folders of a live source together stay below, the oldest go; None keeps all.
    """

    name = "pictures"

    def __init__(
        self,
        folder: Path,
        *,
        label: str = "result",
        every: int = 1,
        suffix: str = ".jpg",
        keep_bytes: float | None = None,
    ) -> None:
        if every < 1 or suffix not in (".jpg", ".png"):
            raise UsageError(
                f"Got every {every}th picture as {suffix}", expected="1 or more, .jpg or .png"
            )
        self._folder, self._label, self._every, self._suffix = folder, label, every, suffix
        self._rotation = Rotation(keep_bytes=keep_bytes)
        self._keeper: Keeper | None = None
        self._live_folder: Path | None = None
        self._in_folder = self._folder_bytes = 0
        self._writers: dict[str, PictureSink] = {}
        self._since: int | None = None
        self._written, self._stack = 0, ExitStack()

    @property
    def wants_pictures(self) -> bool:
        """See Sink.wants_pictures: whether the next one is due."""
        return self._since is None or self._since + 1 >= self._every

    @property
    def removed(self) -> int:
        """Old folders that made room for new ones."""
        return self._keeper.removed if self._keeper is not None else 0

    def __enter__(self) -> Self:
        with named(self.name):
            PictureSink(self._folder, label=self._label)  # makes the folder
        return self

    def write(self, result: Result) -> None:
        """Keep the picture of a result where it is due; see Sink.write."""
        images = dict(result.outcome.images)
        if self._since is None and not images:
            drawn_picture(result)  # the first was asked for: without one there will be none
        if result.drawn_bgr is not None and self.wants_pictures:
            images[self._label] = result.drawn_bgr
            self._since = 0
        elif self._since is not None:
            self._since += 1
        live = is_live(result.item)
        source = source_stem(result.item.source) if live else result.item.source
        with named(self.name):
            for label, image_bgr in images.items():
                writer = self._writer(label, live=live)
                path = writer.write(source, result.item.index, image_bgr)
                self._in_folder += 1
                self._folder_bytes += path.stat().st_size
        self._written += 1

    def health(self) -> SinkHealth:
        """See Sink.health."""
        return SinkHealth(self.name, self._written)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held open: each picture is written at once."""

    def _writer(self, label: str, *, live: bool) -> PictureSink:
        if live:
            self._turn_to_folder()
        if label not in self._writers:
            folder = self._live_folder or self._folder
            self._writers[label] = PictureSink(folder, label=label, suffix=self._suffix)
        return self._writers[label]

    def _turn_to_folder(self) -> None:
        """Begin a new folder of live pictures where the last is full (rule I1)."""
        largest = self._rotation.largest_bytes
        full = self._in_folder >= PER_FOLDER or (largest and self._folder_bytes >= largest)
        if self._live_folder is not None and not full:
            return
        naming = Naming(self._folder, "", "")
        if self._keeper is None:
            self._keeper = Keeper(naming, self._rotation)
        if self._live_folder is not None:
            self._keeper.end(self._live_folder)
        self._live_folder = naming.path(self._keeper.number())
        self._keeper.begin(self._live_folder)
        self._writers, self._in_folder, self._folder_bytes = {}, 0, 0


def _forms(result: Result) -> dict[str, tuple[Any, ...]]:
    return {name: (item.dtype, item.shape) for name, item in result.outcome.arrays.items()}
