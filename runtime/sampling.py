"""Which token comes next: from a row of scores to one id.

Rules, in the order they are applied:
    P1  Temperature 0 takes the best score; of equal ones the lower id, as argmax has it. Every
        other temperature divides the scores.
    P2  top_k keeps the k best; where the last of them has equals, as many of these as fit, lower
        ids first.
    P3  top_p keeps the fewest of what is left, best first, whose probabilities reach p. The best is
        always among them.
    P4  One is drawn of what is left, by its probability, from a generator that the seed begins. The
        same seed and scores give the same ids; engines differ by rounding, so another engine's
        scores may give others.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.errors import EngineLibraryError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]

_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is chosen.

    Attributes:
        temperature: 0 for the best each time; below 1 nearer to it, above 1 further from it.
        top_k: Choose among the k best only; None among all.
        top_p: Choose among the best that hold this share of the probability only; 1 among all.
        seed: Where the draws begin; None takes one by chance, which the result tells.

    Raises:
        UsageError: One of them is out of its range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(
                f"Got a temperature of {self.temperature}", expected="0 or a number above it"
            )
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"Got top-k {self.top_k}", expected="1 or more tokens to choose from")
        if not 0 < self.top_p <= 1:  # false for NaN as well
            raise UsageError(f"Got top-p {self.top_p}", expected="A share above 0, at most 1")
        if self.seed is not None and not 0 <= self.seed <= _LARGEST_SEED:
            raise UsageError(
                f"Got the seed {self.seed}", expected=f"A whole number from 0 to {_LARGEST_SEED}"
            )


class Sampler:
    """Chooses tokens, one after the other.

    Attributes:
        seed: Where its draws began, or None where nothing is drawn.
    """

    def __init__(self, options: SamplingOptions) -> None:
        self._options = options
        self.seed: int | None = None
        if options.temperature > 0:
            self.seed = options.seed if options.seed is not None else secrets.randbits(32)
        self._random = np.random.default_rng(self.seed)

    def pick(self, logits: npt.NDArray[np.floating]) -> int:
        """Choose one of a row of scores (rules P1 to P4).

        Args:
            logits: Scores [vocabulary]; -infinity for what must not be taken.

        Raises:
            EngineLibraryError: They hold NaN or +infinity, or nothing may be taken.
        """
        _check(logits)
        if self._options.temperature == 0:
            return int(np.argmax(logits))
        ids, shares = candidates(logits, self._options)
        return int(ids[_drawn(shares, float(self._random.random()))])


def candidates(
    logits: npt.NDArray[np.floating], options: SamplingOptions
) -> tuple[npt.NDArray[np.int64], Doubles]:
    """What may be drawn, best first, and with what probability (rules P1 to P3).

    Args:
        logits: Finite scores [vocabulary], or -infinity.
        options: With a temperature above 0.

    Returns:
        Ids int64 [n] and their probabilities float64 [n], which sum to 1.
    """
    scores = np.asarray(logits, np.float64)
    order = _best(scores, options.top_k)
    order = order[np.isfinite(scores[order])]
    # The largest is taken off first: a small temperature must not make infinities of differences.
    with np.errstate(over="ignore"):
        powers = np.exp((scores[order] - scores[order[0]]) / options.temperature)
    shares = powers / powers.sum()
    if options.top_p < 1:
        before = np.cumsum(shares) - shares
        kept = max(1, int(np.count_nonzero(before < options.top_p)))
        order, shares = order[:kept], shares[:kept] / shares[:kept].sum()
    return order.astype(np.int64), shares


def probabilities(logits: npt.NDArray[np.floating]) -> Doubles:
    """Scores [..., classes] as probabilities along the last axis."""
    scores = np.asarray(logits, np.float64)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _best(scores: Doubles, count: int | None) -> npt.NDArray[np.intp]:
    """Ids of the best scores, best first, lower ids first among equals (rule P2)."""
    if count is None or count >= scores.size:
        return np.argsort(-scores, kind="stable")
    last = np.partition(scores, scores.size - count)[scores.size - count]
    above, equal = np.flatnonzero(scores > last), np.flatnonzero(scores == last)
    ids = np.concatenate([above, equal[: count - above.size]])
    return ids[np.lexsort((ids, -scores[ids]))]


def _drawn(shares: Doubles, point: float) -> int:
    """The place where a point from 0 to 1 falls among the shares."""
    place = int(np.searchsorted(np.cumsum(shares), point, side="right"))
    return min(place, len(shares) - 1)  # a sum may end a hair below 1


def _check(logits: npt.NDArray[np.floating]) -> None:
    if np.isnan(logits).any() or np.isposinf(logits).any() or not np.isfinite(logits).any():
        raise EngineLibraryError(
            "The scores of the next token hold NaN or infinity",
            expected="Finite numbers",
            do="Try --precision fp32: where that is finite, this variant overflows",
        )
