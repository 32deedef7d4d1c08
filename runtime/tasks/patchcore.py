"""PatchCore in numpy: a memory of good patches, and how far a patch lies from the nearest.

Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: Towards Total Recall in Industrial Anomaly
Detection, 2021, arXiv 2106.08265. As there: patches of all good pictures in one memory whatever
their position, thinned by greedy k-center selection on a random projection (algorithm 1), the
distance to the nearest entry, and a picture's score re-weighted by that entry's neighbours (eq. 7).
Other than there:
    C1  Features are a vision transformer's patch tokens, which have seen their surroundings, so
        neighbouring patches are not averaged.
    C2  The memory holds SHARE of the patches (the largest that the paper tries), and at most
        MOST_ENTRIES.
    C3  Equal patches are kept once: selection ends where nothing differs from what is kept.
Distances are exact: candidates are found by a matrix product, and the distance to the nearest is
then taken from the difference itself. Memory is bounded by _BLOCK rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Indices = npt.NDArray[np.int64]

SHARE = 0.25
MOST_ENTRIES = 8192
NEIGHBOURS = 9  # b of eq. 7, as the paper's code and anomalib have it
PROJECTED = 128  # dimensions that selection sees (Johnson and Lindenstrauss)
_BLOCK = 1024  # rows of tokens beside the whole memory: 32 MB of distances at most


@dataclass(frozen=True, eq=False)
class Memory:
    """What is remembered of good patches.

    Attributes:
        bank: float32 [entries, D].
    """

    bank: Floats

    def judge(self, tokens: Floats) -> tuple[Floats, float]:
        """Distances of one picture's patches to the nearest entries, and the picture's score.

        The score is the distance of the oddest patch, re-weighted (eq. 7): by less than one where
        the entry nearest to it has its own neighbours as near to the patch, hence where entries
        are dense.

        Args:
            tokens: float32 [patches, D].

        Returns:
            float32 [patches], and the score.
        """
        distances, nearest = self._nearest(tokens)
        oddest = int(distances.argmax())
        weight = self._weight(tokens[oddest], int(nearest[oddest]))
        return distances, float(distances[oddest]) * weight

    def _weight(self, token: Floats, entry: int) -> float:
        apart = np.linalg.norm(self.bank - self.bank[entry], axis=1)
        around = np.argsort(apart, kind="stable")[: min(NEIGHBOURS, len(self.bank))]
        if len(around) == 1:
            return 1.0  # with no neighbours eq. 7 would make every score 0
        away = np.linalg.norm(self.bank[around] - token, axis=1).astype(np.float64)
        own = float(np.linalg.norm(self.bank[entry] - token))
        # exp(own) / sum of exp(away), without numbers that overflow
        return float(1.0 - 1.0 / np.exp(away - own).sum()) if away.max() - own < 700 else 1.0

    def _nearest(self, tokens: Floats) -> tuple[Floats, Indices]:
        centre = self.bank.mean(axis=0)  # less is lost in the product near the origin
        bank = self.bank - centre
        squares = np.einsum("ij,ij->i", bank, bank)
        nearest = np.empty(len(tokens), np.int64)
        for start in range(0, len(tokens), _BLOCK):
            rows = slice(start, start + _BLOCK)
            nearest[rows] = (squares - 2 * (tokens[rows] - centre) @ bank.T).argmin(axis=1)
        away = np.linalg.norm(tokens - self.bank[nearest], axis=1)
        return np.asarray(away, np.float32), nearest


def remember(features: Floats, seed: int, share: float = SHARE) -> Memory:
    """Make a memory of good pictures.

    Args:
        features: float32 [pictures, patches, D], at least 2 pictures.
        seed: Seed of the projection and of the first entry.
        share: Of all patches, over 0 and at most 1, that are kept.

    Raises:
        InputError: There are fewer than 2 pictures, or they are all the same.
        UsageError: The share is no share.
    """
    if not 0 < share <= 1:
        raise UsageError(f"Got {share} as the share of patches to keep", expected="Over 0, up to 1")
    if len(features) < 2:
        raise InputError(f"Got {len(features)} good pictures", expected="At least 2, better 20")
    if not (features != features[0]).any():
        raise InputError(
            f"The {len(features)} good pictures are all the same",
            expected="Pictures that show how good ones differ",
        )
    patches = features.reshape(-1, features.shape[2])
    wanted = min(MOST_ENTRIES, max(1, round(share * len(patches))))
    return Memory(np.ascontiguousarray(patches[coreset(patches, wanted, seed)]))


def coreset(patches: Floats, count: int, seed: int) -> Indices:
    """Greedy k-center selection: again and again the patch farthest from all that are selected.

    Args:
        patches: float32 [N, D].
        count: How many to select, fewer where patches repeat (C3).
        seed: Seed of the projection and of the first one.

    Returns:
        int64, indices in the order of selection.
    """
    random = np.random.default_rng(seed)
    seen = _projected(patches - patches.mean(axis=0), random)
    squares = np.einsum("ij,ij->i", seen, seen)
    smallest = 1e-6 * float(squares.max())  # below it float32 tells nothing apart
    chosen = [int(random.integers(len(seen)))]
    gap = np.full(len(seen), np.inf, np.float32)
    for _ in range(count - 1):
        last = chosen[-1]
        np.minimum(gap, squares - 2 * (seen @ seen[last]) + squares[last], out=gap)
        gap[last] = 0
        farthest = int(gap.argmax())
        if gap[farthest] <= smallest:
            break
        chosen.append(farthest)
    return np.array(chosen, np.int64)


def _projected(patches: Floats, random: np.random.Generator) -> Floats:
    dims = patches.shape[1]
    if dims <= PROJECTED:
        return patches
    directions = random.standard_normal((dims, PROJECTED)) / np.sqrt(PROJECTED)
    return np.asarray(patches @ directions.astype(np.float32), np.float32)
