"""Whisper: what one run of each part costs, on paper, by torch's counter and in the graph."""

from __future__ import annotations

import pytest
import torch

from jetlift.export.recipes import whisper
from jetlift.export.recipes.whisper_sizes import SIZES, Size


def on_paper(size: Size) -> dict[str, int]:
    """Multiply-adds of each part: arXiv 2212.04356, figure 1, with a cache of every position."""
    wide, inner, times, positions = size.width, size.inner, size.times, size.positions
    stem = 3 * wide * (size.mel_bins * size.frames + wide * times)
    attention = 2 * times**2 * wide
    layer = times * (4 * wide**2 + 2 * wide * inner) + attention
    own = 4 * wide**2 + 2 * positions * wide + wide  # the token's own score is joined apart
    other = 2 * wide**2 + 2 * times * wide
    step = size.decoder_layers * (own + other + 2 * wide * inner) + wide * size.vocabulary
    return {
        "encoder": stem + size.encoder_layers * layer,
        "cross": size.decoder_layers * 2 * times * wide**2,
        "decoder": step,
    }


@pytest.mark.parametrize(
    "size", [size for size in SIZES if not size.english_only], ids=lambda size: size.name
)
def test_operations_on_paper_are_those_that_torch_counts(size):
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import WhisperForConditionalGeneration

    recipe = next(item for item in whisper.RECIPES if item.name == size.name)
    dtypes = {"float32": torch.float32, "int64": torch.int64}
    with torch.device("meta"), torch.no_grad():
        model = WhisperForConditionalGeneration._from_config(
            whisper.config_of(size), attn_implementation="eager"
        )
        for name, module in whisper._modules(model).items():
            feeds = [
                torch.zeros(spec.opt_shape, dtype=dtypes[spec.dtype])
                for spec in recipe.parts[name].inputs
            ]
            with FlopCounterMode(display=False) as counter:
                module(*feeds)
            counted, paper = counter.get_total_flops() / 2, on_paper(size)[name]
            assert counted == pytest.approx(paper, rel=0.002), name


def test_the_graphs_cost_what_is_on_paper(whisper_bundle):
    size = next(item for item in SIZES if item.name == "whisper-tiny-en")
    for name, macs in on_paper(size).items():
        cost = whisper_bundle.variant(name, "fp32").cost
        assert sum(cost.operations_by_precision.values()) == pytest.approx(2 * macs, rel=0.02), name
        assert cost.uncounted == ()
