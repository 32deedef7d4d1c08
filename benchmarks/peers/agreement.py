"""How near a contender's outputs are to the reference's, so that nobody wins by being wrong.

Rules:
    A1  `cosine`: outputs of the same names (or the only one) are compared row by row, a row being
        the last axis; the mean and the lowest are told, and the mean has to reach COSINE.
    A2  `words`: word errors, lower case and without punctuation. Where what was said is known, they
        are counted against that, and may be more than the reference's own by WORDS of all words;
        else they are counted against the reference's text.
    A3  `boxes`: share of the reference's boxes that are found again, and of the contender's own
        that the reference has (same class, overlap of a half); each has to reach BOXES.
    A4  `distances`: rank correlation of the maps, which has to reach RANKS: two methods may scale
        them differently.
    A5  `none`: another network or other weights; nothing is compared, and speed alone is told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jetlift.runtime.boxes import find, iou_matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from jetlift.runtime.manifest import Detection

    Arrays = Mapping[str, npt.NDArray[Any]]

Kind = Literal["cosine", "words", "boxes", "distances", "none"]
COSINE, WORDS, BOXES, RANKS = 0.99, 0.1, 0.9, 0.9
_OVERLAP = 0.5


def agreement(
    kind: Kind,
    reference: Arrays,
    found: Arrays,
    *,
    detection: tuple[Detection, Sequence[int]] | None = None,
    said: Sequence[str] = (),
) -> tuple[dict[str, float], bool | None]:
    """Compare outputs (rules A1 to A5).

    Args:
        kind: How.
        reference: The reference's outputs, `NUMBER/NAME`.
        found: The contender's.
        detection: For boxes: the head and the input's width and height.
        said: For words: what was said, where that is known.

    Returns:
        Figures by name, and whether they are near enough; None where nothing is compared.
    """
    if kind == "none":
        return {}, None
    if kind == "words":
        return _words(reference, found, said)
    if kind == "boxes" and detection is not None:
        return _boxes(reference, found, detection)
    if kind == "distances":
        return _ranks(reference, found)
    return _cosines(reference, found)


def _paired(reference: Arrays, found: Arrays) -> list[tuple[Any, Any]]:
    """Arrays of one input and name; where each input has one output alone, names do not matter."""
    if set(reference) == set(found):
        return [(reference[name], found[name]) for name in sorted(reference)]
    ours, theirs = _only(reference), _only(found)
    shared = sorted(set(ours) & set(theirs))
    return [(ours[number], theirs[number]) for number in shared]


def _only(arrays: Arrays) -> dict[str, Any]:
    counted: dict[str, list[Any]] = {}
    for name, array in arrays.items():
        counted.setdefault(name.partition("/")[0], []).append(array)
    return {number: items[0] for number, items in counted.items() if len(items) == 1}


def _cosines(reference: Arrays, found: Arrays) -> tuple[dict[str, float], bool]:
    """Rule A1."""
    cosines = [
        _cosine(ours, theirs)
        for ours, theirs in _paired(reference, found)
        if ours.size == theirs.size
    ]
    if not cosines:
        return {}, False
    every = np.concatenate(cosines)
    figures = {"cosine_mean": float(every.mean()), "cosine_min": float(every.min())}
    finite = np.isfinite(every).all()
    return _rounded(figures) if finite else {}, bool(finite and figures["cosine_mean"] >= COSINE)


def _cosine(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    first = np.asarray(ours, np.float64).reshape(-1, ours.shape[-1])
    second = np.asarray(theirs, np.float64).reshape(first.shape)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = (first * second).sum(axis=1)
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths != 0)
    return np.asarray(cosines, np.float64)


def _words(reference: Arrays, found: Arrays, said: Sequence[str]) -> tuple[dict[str, float], bool]:
    """Rule A2."""
    ours, theirs = _texts(reference), _texts(found)
    wanted = said or ours
    total = sum(len(words_of(text)) for text in wanted)
    if not total or len(theirs) != len(wanted):
        return {}, False
    errors, own = _word_errors(wanted, theirs), _word_errors(wanted, ours)
    figures = {"words_wrong": float(errors), "of_words": float(total)}
    if said:
        figures["reference_wrong"] = float(own)
    return figures, errors <= own + WORDS * total


def _texts(arrays: Arrays) -> list[str]:
    return [str(text) for name in sorted(arrays) for text in arrays[name]]


def _word_errors(wanted: Sequence[str], got: Sequence[str]) -> int:
    return sum(
        edits(words_of(one), words_of(other)) for one, other in zip(wanted, got, strict=True)
    )


def words_of(text: str) -> list[str]:
    """Words as they are compared (rule A2)."""
    return re.sub(r"[^\w\s']", " ", text.lower()).split()


def edits(wanted: Sequence[str], got: Sequence[str]) -> int:
    """Fewest words to change, leave out or put in."""
    row = list(range(len(got) + 1))
    for index, word in enumerate(wanted, 1):
        before, row[0] = row[0], index
        for place, other in enumerate(got, 1):
            before, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, before + (word != other)),
            )
    return row[-1]


def _boxes(
    reference: Arrays, found: Arrays, detection: tuple[Detection, Sequence[int]]
) -> tuple[dict[str, float], bool]:
    """Rule A3."""
    head, size_wh = detection
    ours_count = theirs_count = again = known = 0
    for ours_raw, theirs_raw in _paired(reference, found):
        ours, theirs = find(ours_raw[0], size_wh, head), find(theirs_raw[0], size_wh, head)
        same = ours.labels[:, None] == theirs.labels[None, :]
        near = (iou_matrix(ours.boxes_xyxy, theirs.boxes_xyxy) >= _OVERLAP) & same
        again += int(near.any(axis=1).sum())
        known += int(near.any(axis=0).sum())
        ours_count, theirs_count = ours_count + len(ours), theirs_count + len(theirs)
    if not ours_count or not theirs_count:
        return {}, False
    shares = {"found_again": again / ours_count, "known": known / theirs_count}
    return _rounded(shares), min(shares.values()) >= BOXES


def _ranks(reference: Arrays, found: Arrays) -> tuple[dict[str, float], bool]:
    """Rule A4, on outputs called `distances`."""
    named = [name for name in sorted(reference) if name.endswith("/distances") and name in found]
    values = [_correlation(reference[name].ravel(), found[name].ravel()) for name in named]
    if not values:
        return {}, False
    figures = {"rank_correlation": float(min(values))}
    return _rounded(figures), figures["rank_correlation"] >= RANKS


def _correlation(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    ranks: Callable[[Any], Any] = lambda array: array.argsort().argsort()  # noqa: E731
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in figures.items()}
