"""Real samples, split once: one set chooses, another reports.

S1  Samples are taken in order of their names (pictures, arrays) or lines (text).
S2  The first half, at most CALIBRATION_LIMIT, calibrates; the rest is read once, for the figures.
S3  What calibrates is prepared by the very code that prepares input at run time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.manifest import ImagePreprocess, SampleSet, TextPreprocess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.runtime.manifest import Part, TensorSpec

CALIBRATION_LIMIT = 64
MINIMUM = 2
_PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}

if TYPE_CHECKING:
    Feeds = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Samples:
    """Samples made ready for one part.

    Attributes:
        feeds: Graph inputs per sample, batch 1.
        described: Which samples they are.
    """

    feeds: Sequence[Feeds]
    described: SampleSet


@dataclass(frozen=True)
class SampleSplit:
    """One set to choose by, another to report on."""

    calibration: Samples
    report: Samples


def prepare(folder: Path, part: Part, bundle_folder: Path) -> SampleSplit:
    """Read, split and prepare the samples for one part.

    Args:
        folder: A folder of pictures, a .txt file or folder of them, or a folder of .npz files with
            one array per graph input, as the part's preprocessing asks.
        part: The part that takes them.
        bundle_folder: Where the part's assets lie (the tokenizer).

    Raises:
        InputError: The folder is missing, has too few samples, or none that can be read.
    """
    if not folder.exists():
        raise InputError(f"There is no {folder}", expected="A folder or file with real samples")
    if isinstance(part.preprocess, ImagePreprocess):
        items = _pictures(folder, part.preprocess)
    elif isinstance(part.preprocess, TextPreprocess):
        items = _texts(folder, part.preprocess, bundle_folder)
    else:
        items = _arrays(folder, part.inputs)
    if len(items) < MINIMUM:
        raise InputError(
            f"{folder} has {len(items)} usable samples",
            expected=f"At least {MINIMUM}: one half calibrates, the other reports",
        )
    return split(items, note=f"{folder.name}, by name")


def split(items: Sequence[tuple[str, Feeds]], *, note: str) -> SampleSplit:
    """Split (digest, feeds) pairs by rule S2."""
    cut = min(CALIBRATION_LIMIT, len(items) // 2)
    return SampleSplit(
        calibration=_samples(items[:cut], f"{note}: the first {cut} of {len(items)}"),
        report=_samples(items[cut:], f"{note}: the last {len(items) - cut} of {len(items)}"),
    )


def _samples(items: Sequence[tuple[str, Feeds]], note: str) -> Samples:
    digest = hashlib.sha256("".join(item[0] for item in items).encode()).hexdigest()
    described = SampleSet(count=len(items), sha256=digest, note=note)
    return Samples([feeds for _, feeds in items], described)


def _pictures(folder: Path, spec: ImagePreprocess) -> list[tuple[str, Feeds]]:
    from jetlift.runtime.preprocess import prepare_image
    from jetlift.runtime.sources import open_source

    with open_source([str(folder)]) as source:
        items = [
            (_digest(frame.image_bgr.tobytes()), {spec.input: prepare_image(frame.image_bgr, spec)})
            for frame in source
        ]
        if source.skipped:
            raise InputError(
                f"{source.skipped[0].source} cannot be read: {source.skipped[0].reason}",
                expected="Samples that are all whole, since figures must be repeatable",
                do="Remove it from the samples",
            )
    return items


def _texts(folder: Path, spec: TextPreprocess, bundle_folder: Path) -> list[tuple[str, Feeds]]:
    from jetlift.runtime.sources import open_texts
    from jetlift.runtime.text import TextPreparer

    preparer = TextPreparer(spec, bundle_folder / spec.tokenizer)
    with open_texts([str(folder)]) as source:
        return [(_digest(item.text.encode()), preparer([item.text])) for item in source]


def _arrays(folder: Path, inputs: Sequence[TensorSpec]) -> list[tuple[str, Feeds]]:
    import zipfile

    import numpy as np

    from jetlift.runtime.bundle import sha256_of
    from jetlift.runtime.session.base import check_feeds

    items: list[tuple[str, Feeds]] = []
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as arrays:
                feeds = {name: arrays[name] for name in arrays.files}
            check_feeds(inputs, feeds)
        except (ValueError, OSError, UsageError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} cannot be used as a sample: {error}") from error
        items.append((sha256_of(path), feeds))
    if not items and any(path.suffix.lower() in _PICTURES for path in folder.iterdir()):
        raise InputError(
            f"{folder} has pictures, but a graph of one's own has no preprocessing to turn them "
            "into its input",
            expected="Files *.npz, each with one array per graph input",
        )
    return items


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
