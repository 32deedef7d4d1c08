"""A folder of one run's results: what `jetlift run -o DIR` leaves.

Rules:
    O1  `results.jsonl` has one line per input, in order; arrays go to `results.npz`, pictures,
        drawn or made, to `pictures/`, captions to `captions/`; of a single video the drawn
        pictures become `annotated.mp4`.
    O2  A run that never ends keeps no arrays and no single pictures, which would fill the disk.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from jetlift.runtime.captions import CaptionSink
from jetlift.runtime.drawing import with_warning
from jetlift.runtime.errors import InputError
from jetlift.runtime.pipeline.form import SinkHealth
from jetlift.runtime.sinks import JsonlSink, NpzSink, PictureSink, VideoSink

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from jetlift.runtime.pipeline.form import Result
    from jetlift.runtime.tasks.base import Item

    Picture = npt.NDArray[np.uint8]

RESULTS_NAME, ARRAYS_NAME = "results.jsonl", "results.npz"
PICTURES_FOLDER, CAPTIONS_FOLDER, VIDEO_NAME = "pictures", "captions", "annotated.mp4"


def refuse_taken(folder: Path) -> None:
    """Refuse a folder that holds something already.

    Raises:
        InputError: It does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is there already and not empty",
            expected="A new folder, so that results of two runs never mix",
            do="Choose another one with -o",
        )


class FolderSink:
    """Writes results into a folder (rules O1, O2). A Sink of the pipeline.

    Args:
        folder: It must be new or empty.
        label: What is drawn, as in `anomaly`; part of the pictures' names.
        video_fps: Frames per second of the video that drawn pictures become; None makes single
            pictures of them.
        endless: Whether the run has no end of its own (rule O2).
        mark: What every picture that a task made has to tell.

    Raises:
        InputError: The folder holds files already.
    """

    name = "folder"

    def __init__(
        self,
        folder: Path,
        *,
        label: str,
        video_fps: float | None = None,
        endless: bool = False,
        mark: Mapping[str, object] | None = None,
    ) -> None:
        refuse_taken(folder)
        self._folder, self._label, self._video_fps = folder, label, video_fps
        self._endless, self._stack, self._written = endless, ExitStack(), 0
        self._warning = ", ".join(f"{name}: {value}" for name, value in (mark or {}).items())
        self._pictures: dict[str, PictureSink] = {}
        self._video: VideoSink | None = None
        self._captions: CaptionSink | None = None

    @property
    def wants_pictures(self) -> bool:
        """See Sink.wants_pictures."""
        return self._video_fps is not None or not self._endless

    def health(self) -> SinkHealth:
        """See Sink.health."""
        return SinkHealth(self.name, self._written)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._lines = stack.enter_context(JsonlSink(self._folder / RESULTS_NAME))
            if not self._endless:
                self._arrays = stack.enter_context(NpzSink(self._folder / ARRAYS_NAME))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, result: Result) -> None:
        """Write all there is of one result; see Sink.write."""
        item, outcome = result.item, result.outcome
        fields = outcome.fields
        self._lines.write(fields)
        if outcome.arrays and not self._endless:
            row = (fields["source"], fields["index"], fields["time_s"], outcome.arrays)
            self._arrays.write(*row)
        if outcome.files:
            self._captions = self._captions or CaptionSink(self._folder / CAPTIONS_FOLDER)
            self._captions.write(item.source, outcome.files)
        for label, image_bgr in outcome.images.items():
            warned = with_warning(image_bgr, self._warning) if self._warning else image_bgr
            self._picture(label, item, warned)
        if result.drawn_bgr is not None:
            self._drawn(item, result.drawn_bgr)
        self._written += 1

    def _drawn(self, item: Item, drawn_bgr: Picture) -> None:
        if self._video_fps is not None:
            if self._video is None:
                path = self._folder / VIDEO_NAME
                self._video = self._stack.enter_context(VideoSink(path, fps=self._video_fps))
            self._video.write(drawn_bgr)
        elif not self._endless:
            self._picture(self._label, item, drawn_bgr)

    def _picture(self, label: str, item: Item, image_bgr: Picture) -> None:
        sink = self._pictures.get(label)
        if sink is None:
            folder = self._folder / PICTURES_FOLDER
            sink = self._pictures[label] = PictureSink(folder, label=label)
        sink.write(item.source, item.index, image_bgr)
