"""Decoders that are judged step by step on given texts (teacher forcing): which steps, and how.

Rules:
    S1  The first tokens of a sequence are always among the steps. What a decoder keeps of its first
        token is larger than of any other and every later token looks at it: ranges that never saw
        it clip it, and the decoder then fails when it runs freely, however well it does on the
        steps that were looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.export.fidelity.vectors import compare, vector_loss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jetlift.export.fidelity.metric import Outputs

STEPS = 4


def steps_of(tokens: int, prompt: int = 1) -> list[int]:
    """Positions to judge of a text: all of its prompt (rule S1), then evenly to the end.

    Args:
        tokens: How many tokens there are, those of the prompt included.
        prompt: How many of them are given.
    """
    spread = np.linspace(prompt - 1, tokens - 1, STEPS).round().astype(int)
    return sorted({*range(prompt), *spread.tolist()})


class StepMetric:
    """Figures of the decoder on given words.

    token_agreement   share of steps at which fp32 and the variant find the same token likeliest
    logits.cosine_*   cosine of the logits
    new.cosine_*      cosine of the token's own keys and values, over all layers

    Args:
        chooses: Per step, whether its token is chosen and not given, as within a prompt; only
            such steps count in token_agreement.
    """

    names = ("token_agreement", "cosine_mean", "cosine_min")

    def __init__(self, chooses: Sequence[bool]) -> None:
        self._chooses = chooses

    def figures(self, reference: Outputs, got: Outputs) -> dict[str, float]:
        """See the class."""
        steps = zip(reference["logits"], got["logits"], self._chooses, strict=True)
        same = [
            bool(np.isfinite(b).all()) and a.argmax(-1).tolist() == b.argmax(-1).tolist()
            for a, b, chosen in steps
            if chosen
        ]
        near = compare(reference, got)
        fresh = [name for name in reference if name != "logits"]
        return {
            "token_agreement": float(np.mean(same)),
            "logits.cosine_mean": near["logits.cosine_mean"],
            "logits.cosine_min": near["logits.cosine_min"],
            "new.cosine_mean": float(np.mean([near[f"{n}.cosine_mean"] for n in fresh])),
            "new.cosine_min": min(near[f"{n}.cosine_min"] for n in fresh),
        }

    def loss(self, figures: Mapping[str, float]) -> float:
        """By the vectors, of the logits and of the keys and values."""
        return vector_loss(figures)
