"""SigLIP's two encoders as modules that export: raw input in, an embedding of length 1 out."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from jetlift.export.recipes.clip_modules import unit


class PictureEncoder(torch.nn.Module):
    """[batch, 3, side, side] -> embedding [batch, D].

    A learnt query looks at all patches once (transformers' SiglipMultiheadAttentionPoolingHead).
    torch's own attention module takes shortcuts that do not export, so that its three products are
    written out here on the same weights.

    Args:
        model: transformers' SiglipModel.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers ships no types
        super().__init__()
        self.encoder = model.vision_model
        self.encoder.use_head = False

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """See the class."""
        patches = self.encoder(pixel_values).last_hidden_state
        head = self.encoder.head
        seen = self._look(head.attention, head.probe, patches)
        answer: torch.Tensor = seen + head.mlp(head.layernorm(seen))
        return unit(answer)

    @staticmethod
    def _look(
        attention: Any,  # noqa: ANN401 - torch's MultiheadAttention, read by its parts
        probe: torch.Tensor,
        patches: torch.Tensor,
    ) -> torch.Tensor:
        """What the query takes from the patches, [batch, D]."""
        wide, heads = int(attention.embed_dim), int(attention.num_heads)
        weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        query = functional.linear(probe, weights[0], biases[0])
        keys = functional.linear(patches, weights[1], biases[1])
        values = functional.linear(patches, weights[2], biases[2])
        count, head = patches.shape[1], wide // heads
        query = query.reshape(-1, 1, heads, head).transpose(1, 2) * head**-0.5
        keys = keys.reshape(-1, count, heads, head).permute(0, 2, 3, 1)
        values = values.reshape(-1, count, heads, head).transpose(1, 2)
        shares = torch.softmax(torch.matmul(query, keys), dim=-1)
        mixed = torch.matmul(shares, values).flatten(1)
        answer: torch.Tensor = attention.out_proj(mixed)
        return answer


class TextEncoder(torch.nn.Module):
    """Token ids [batch, length] -> embedding [batch, D], read at the last place.

    Args:
        model: transformers' SiglipModel.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers ships no types
        super().__init__()
        self.encoder = model.text_model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return unit(self.encoder(input_ids).pooler_output)
