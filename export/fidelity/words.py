"""How near a transcriber is: word error rate against the spoken words, tokens against fp32's.

Figures of a part whose outputs the decoder attends to:
    wer, wer_fp32               word errors per spoken word, in percent, of the variant and of fp32
    wer_change_low, _high       95 % interval of wer - wer_fp32, in points: paired bootstrap over
                                utterances (Bisani and Ney, ICASSP 2004), seeded
    token_agreement             share of fp32's and the variant's tokens that are the same, aligned
    cosine_mean, cosine_min     cosine of fp32's key and value vectors with the variant's

Rules:
    W1  Words are compared after `normalise`: lower case, no punctuation, an apostrophe inside a
        word kept, a hyphen parts words, digits stay digits.
    W2  Both are decoded by fp32's decoder, greedily, so that the part alone makes the difference.
    W3  A sequence is cut at MOST_TOKENS_PER_WORD tokens for each spoken word (and MORE_TOKENS): a
        variant that babbles is wrong by then, and is counted with what it said so far.
    W4  Outputs that are NaN or infinite transcribe to nothing: every word is an error.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.fidelity.vectors import compare, vector_loss
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    import numpy.typing as npt

    from jetlift.export.fidelity.metric import Outputs

MOST_TOKENS_PER_WORD, MORE_TOKENS = 3, 16
DRAWS, SEED = 10_000, 0
_BATCH = 8


def normalise(text: str) -> list[str]:
    """The words of a text as they are compared (rule W1)."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    return [word for piece in re.findall(r"[\w']+", plain) if (word := piece.strip("'_"))]


@dataclass(frozen=True)
class Alignment:
    """The fewest edits from one sequence to another.

    Attributes:
        edits: Substitutions, deletions and insertions together.
        equal: Items that stay, in an alignment with the fewest edits and the most such items.
    """

    edits: int
    equal: int


def align(wanted: Sequence[Hashable], got: Sequence[Hashable]) -> Alignment:
    """Align two sequences (Levenshtein distance)."""
    # (edits, -equal) compares as wanted: fewest edits first, then most equal items.
    above = [(column, 0) for column in range(len(got) + 1)]
    for row, left in enumerate(wanted, 1):
        line = [(row, 0)]
        for column, right in enumerate(got, 1):
            edits, equal = above[column - 1]
            through = (edits, equal - 1) if left == right else (edits + 1, equal)
            dropped, added = above[column], line[column - 1]
            line.append(min(through, (dropped[0] + 1, dropped[1]), (added[0] + 1, added[1])))
        above = line
    return Alignment(above[-1][0], -above[-1][1])


def word_errors(wanted: str, got: str) -> tuple[int, int]:
    """Word errors and spoken words of one utterance."""
    words = normalise(wanted)
    return align(words, normalise(got)).edits, len(words)


def error_rate_percent(errors: Sequence[int], words: Sequence[int]) -> float:
    """Errors of the whole corpus per spoken word, in percent.

    Raises:
        UsageError: Nothing was spoken.
    """
    if not sum(words):
        raise UsageError("No word was spoken", expected="Transcripts with at least one word")
    return 100.0 * sum(errors) / sum(words)


def paired_interval(
    errors: Sequence[int],
    other: Sequence[int],
    words: Sequence[int],
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> tuple[float, float]:
    """95 % interval of the change in word error rate from `errors` to `other`, in points.

    Utterances are drawn with replacement, both systems' errors together. Where a draw has no
    word, which only tiny corpora of empty transcripts could give, its change is 0.
    """
    random = np.random.default_rng(seed)
    change = np.asarray(other, np.float64) - np.asarray(errors, np.float64)
    spoken = np.asarray(words, np.float64)
    picked = random.integers(0, len(spoken), (draws, len(spoken)))
    total = spoken[picked].sum(axis=1)
    changes = 100.0 * change[picked].sum(axis=1) / np.where(total > 0, total, 1.0)
    low, high = np.percentile(changes, (2.5, 97.5))
    return float(low), float(high)


def token_agreement(
    wanted: Sequence[Sequence[Hashable]], got: Sequence[Sequence[Hashable]]
) -> float:
    """Share of tokens that agree over all sequences: equal ones by the longer of each two."""
    longest = sum(max(len(a), len(b)) for a, b in zip(wanted, got, strict=True))
    equal = sum(align(a, b).equal for a, b in zip(wanted, got, strict=True))
    return equal / longest if longest else 1.0


class WordMetric:
    """Judges an encoder by what fp32's decoder makes of its outputs (rules W1 to W4).

    Args:
        decode: From outputs by name, [batch, ...], and a limit per utterance, to token ids.
        to_text: From token ids to text.
        transcripts: What was said in each sample, in order.
    """

    names = (
        "wer", "wer_fp32", "wer_change_low", "wer_change_high",
        "token_agreement", "cosine_mean", "cosine_min",
    )  # fmt: skip

    def __init__(
        self,
        decode: Callable[[dict[str, npt.NDArray[Any]], Sequence[int]], list[tuple[int, ...]]],
        to_text: Callable[[Sequence[int]], str],
        transcripts: Sequence[str],
    ) -> None:
        self._decode, self._to_text, self._transcripts = decode, to_text, list(transcripts)
        self._limits = [
            MORE_TOKENS + MOST_TOKENS_PER_WORD * len(normalise(text)) for text in transcripts
        ]
        self._known: tuple[Outputs, list[tuple[int, ...]]] | None = None

    def figures(self, reference: Outputs, got: Outputs) -> dict[str, float]:
        """See the module; `reference` is decoded once as long as it is the same object."""
        if self._known is None or self._known[0] is not reference:
            self._known = (reference, self.tokens(reference))
        fp32, variant = self._known[1], self.tokens(got)
        errors_fp32, words = self._errors(fp32)
        errors, _ = self._errors(variant)
        low, high = paired_interval(errors_fp32, errors, words)
        near = compare(reference, got)
        return {
            "wer": error_rate_percent(errors, words),
            "wer_fp32": error_rate_percent(errors_fp32, words),
            "wer_change_low": low,
            "wer_change_high": high,
            "token_agreement": token_agreement(fp32, variant),
            "cosine_mean": float(np.mean([near[f"{n}.cosine_mean"] for n in reference])),
            "cosine_min": min(near[f"{n}.cosine_min"] for n in reference),
        }

    def loss(self, figures: Mapping[str, float]) -> float:
        """By the vectors: words of a few dozen utterances are too coarse to rank by."""
        return vector_loss(figures)

    def tokens(self, outputs: Outputs) -> list[tuple[int, ...]]:
        """What the decoder hears in each sample."""
        count = len(self._transcripts)
        sound = [i for i in range(count) if all(np.isfinite(a[i]).all() for a in outputs.values())]
        # Utterances of like length together: a batch runs until its longest has ended.
        sound.sort(key=lambda i: self._limits[i])
        heard: list[tuple[int, ...]] = [()] * count
        for start in range(0, len(sound), _BATCH):
            rows = sound[start : start + _BATCH]
            batch = {name: np.concatenate([a[i] for i in rows]) for name, a in outputs.items()}
            decoded = self._decode(batch, [self._limits[i] for i in rows])
            for row, tokens in zip(rows, decoded, strict=True):
                heard[row] = tokens
        return heard

    def _errors(self, tokens: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
        pairs = [
            word_errors(text, self._to_text(ids))
            for text, ids in zip(self._transcripts, tokens, strict=True)
        ]
        return [errors for errors, _ in pairs], [words for _, words in pairs]
