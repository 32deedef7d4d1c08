"""Real samples, split once: one set calibrates, one is searched on, another reports.

S1  Samples are taken in order of their names (pictures, arrays, sound) or lines (text).
S2  The first half, at most 64, chooses; the rest is read once, for the figures. Text, of which a
    sample is little, chooses by the first four fifths, at most 400.
S3  Of those that choose, the first calibrate and the last, half of them (of text a quarter), are
    searched on: no sample does both. They are not mixed, since neighbours by name are often alike,
    and a search that sees only likenesses of what calibrated promises too much.
S4  What calibrates is prepared by the very code that prepares input at run time.
S5  Random weights may be calibrated on seeded arrays, which say nothing of any real input.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.manifest import ImagePreprocess, SampleSet, TextPreprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.runtime.manifest import Part, TensorSpec

    ReadItems = Callable[["ItemContext"], Sequence["Item"]]

MINIMUM = 3
_SEEDED = 4  # seeded arrays that calibrate; one more stands for those to search on
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}

if TYPE_CHECKING:
    Feeds = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Item:
    """One sample.

    Attributes:
        digest: SHA-256 of its content.
        feeds: What it gives the graph, usually once; a decoder takes several steps of one sample.
        label: What is true of it (a transcript, boxes), where that is known.
    """

    digest: str
    feeds: tuple[Feeds, ...]
    label: Any = None


@dataclass(frozen=True)
class ItemContext:
    """What a recipe may need to read the samples of a part.

    Attributes:
        folder: Where the samples lie.
        part: The part that takes them.
        bundle_folder: Where the bundle's assets lie.
        files: The fp32 graph of every part, by part.
    """

    folder: Path
    part: Part
    bundle_folder: Path
    files: Mapping[str, Path]


@dataclass(frozen=True)
class Samples:
    """Samples made ready for one part.

    Attributes:
        feeds: Graph inputs, batch 1, one or more per sample.
        described: Which samples they are.
        labels: What is true of each sample, in order; None where it is not known.
    """

    feeds: Sequence[Feeds]
    described: SampleSet
    labels: Sequence[Any] = field(default=())


@dataclass(frozen=True)
class SampleSplit:
    """One set to calibrate on, one to search on, another to report on."""

    calibration: Samples
    search: Samples
    report: Samples


@dataclass(frozen=True)
class Rule:
    """How samples of a kind are split (rules S2 and S3).

    Attributes:
        share: Part of all samples that chooses.
        limit: Most samples that choose.
        searched: Part of those that choose which is searched on.
    """

    share: Fraction
    limit: int
    searched: Fraction


PICTURES, TEXTS = (
    Rule(Fraction(1, 2), 64, Fraction(1, 2)),
    Rule(Fraction(4, 5), 400, Fraction(1, 4)),
)


def prepare(context: ItemContext, read: ReadItems | None = None) -> SampleSplit:
    """Read, split and prepare the samples for one part.

    Args:
        context: A folder of pictures, a .txt file or folder of them, or a folder of .npz files
            with one array per graph input, as the part's preprocessing asks.
        read: The recipe's own way to read the samples.

    Raises:
        InputError: The folder is missing, has too few samples, or none that can be read.
    """
    folder, part = context.folder, context.part
    if not folder.exists():
        raise InputError(f"There is no {folder}", expected="A folder or file with real samples")
    rule = PICTURES
    if read is not None:
        items = list(read(context))
    elif isinstance(part.preprocess, ImagePreprocess):
        items = _pictures(folder, part.preprocess)
    elif isinstance(part.preprocess, TextPreprocess):
        items, rule = _texts(folder, part.preprocess, context.bundle_folder), TEXTS
    else:
        items = _arrays(folder, part.inputs)
    if len(items) < MINIMUM:
        raise InputError(
            f"{folder} has {len(items)} usable samples",
            expected=f"At least {MINIMUM}: to calibrate, to search and to report on",
        )
    return split(items, rule, note=f"{folder.name}, by name")


def split(items: Sequence[Item], rule: Rule = PICTURES, *, note: str) -> SampleSplit:
    """Split samples by rules S2 and S3."""
    cut = min(rule.limit, max(2, int(len(items) * rule.share)))
    middle = cut - max(1, int(cut * rule.searched))
    return SampleSplit(
        calibration=_samples(items[:middle], f"{note}: the first {middle} of {len(items)}"),
        search=_samples(items[middle:cut], f"{note}: the next {cut - middle}"),
        report=_samples(items[cut:], f"{note}: the last {len(items) - cut} of {len(items)}"),
    )


def seeded(part: Part) -> SampleSplit:
    """Seeded arrays in place of samples, for random weights alone (rule S5); none to report on."""
    from jetlift.runtime.feeds import random_feeds

    items = []
    for seed in range(_SEEDED + 1):
        feeds = random_feeds(part, seed)
        content = b"".join(feeds[spec.name].tobytes() for spec in part.inputs)
        items.append(Item(_digest(content), (feeds,)))
    note = "seeded arrays, for random weights: scales are structure only"
    return SampleSplit(
        calibration=_samples(items[:_SEEDED], note),
        search=_samples(items[_SEEDED:], note),
        report=_samples([], note),
    )


def _samples(items: Sequence[Item], note: str) -> Samples:
    digest = hashlib.sha256("".join(item.digest for item in items).encode()).hexdigest()
    described = SampleSet(count=len(items), sha256=digest, note=note)
    feeds = [feed for item in items for feed in item.feeds]
    return Samples(feeds, described, [item.label for item in items])


def _pictures(folder: Path, spec: ImagePreprocess) -> list[Item]:
    from jetlift.runtime.preprocess import prepare_image
    from jetlift.runtime.sources import open_source

    with open_source([str(folder)]) as source:
        items = [
            Item(
                _digest(frame.image_bgr.tobytes()),
                ({spec.input: prepare_image(frame.image_bgr, spec)},),
            )
            for frame in source
        ]
        if source.skipped:
            raise InputError(
                f"{source.skipped[0].source} cannot be read: {source.skipped[0].reason}",
                expected="Samples that are all whole, since figures must be repeatable",
                do="Remove it from the samples",
            )
    return items


def _texts(folder: Path, spec: TextPreprocess, bundle_folder: Path) -> list[Item]:
    from jetlift.runtime.sources import open_texts
    from jetlift.runtime.text import TextPreparer

    preparer = TextPreparer(spec, bundle_folder / spec.tokenizer)
    with open_texts([str(folder)]) as source:
        return [Item(_digest(item.text.encode()), (preparer([item.text]),)) for item in source]


def _arrays(folder: Path, inputs: Sequence[TensorSpec]) -> list[Item]:
    import zipfile

    import numpy as np

    from jetlift.runtime.bundle import sha256_of
    from jetlift.runtime.session.base import check_feeds

    items: list[Item] = []
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as arrays:
                feeds = {name: arrays[name] for name in arrays.files}
            check_feeds(inputs, feeds)
        except (ValueError, OSError, UsageError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} cannot be used as a sample: {error}") from error
        items.append(Item(sha256_of(path), (feeds,)))
    if not items and any(path.suffix.lower() in _SUFFIXES for path in folder.iterdir()):
        raise InputError(
            f"{folder} has pictures, but a graph of one's own has no preprocessing to turn them "
            "into its input",
            expected="Files *.npz, each with one array per graph input",
        )
    return items


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
