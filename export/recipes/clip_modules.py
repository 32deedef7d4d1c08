"""CLIP's two encoders as modules that export: raw input in, an embedding of length 1 out."""

from __future__ import annotations

from typing import Any

import torch


class PictureEncoder(torch.nn.Module):
    """[batch, 3, side, side] -> embedding [batch, D].

    Args:
        model: transformers' CLIPModel.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers ships no types
        super().__init__()
        self.encoder, self.projection = model.vision_model, model.visual_projection

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return unit(self.projection(self.encoder(pixel_values).pooler_output))


class TextEncoder(torch.nn.Module):
    """Token ids [batch, length] -> embedding [batch, D], read at each text's first end token.

    The end token's place comes from comparisons with the largest of a rank that is different for
    every place, not from an argmax: where padding is the same token, an engine may break ties at
    will. A text without an end token is read at its first place, as transformers does.

    Args:
        model: transformers' CLIPModel.
        end: Id of the end token.
        longest: Longest text in tokens.
    """

    rank: torch.Tensor

    def __init__(self, model: Any, *, end: int, longest: int) -> None:  # noqa: ANN401 - as before
        super().__init__()
        self.encoder, self.projection, self._end = model.text_model, model.text_projection, end
        self._above = float(2 * longest)  # small, so that 16 bits hold every rank exactly
        falling = torch.arange(longest, 0, -1, dtype=torch.float32)
        self.register_buffer("rank", falling, persistent=False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """See the class."""
        hidden = self.encoder(input_ids).last_hidden_state
        is_end = (input_ids == self._end).to(hidden.dtype)
        rank = self.rank[: input_ids.shape[1]] + is_end * self._above
        chosen = (rank == rank.amax(dim=1, keepdim=True)).to(hidden.dtype)
        return unit(self.projection((hidden * chosen[:, :, None]).sum(dim=1)))


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors divided by their Euclidean length."""
    return torch.div(vectors, vectors.norm(dim=-1, keepdim=True))
