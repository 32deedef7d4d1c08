"""OWLv2's picture side as a module that exports."""

from __future__ import annotations

from typing import Any

import torch

# Added to lengths before dividing by them, as the class head does it (transformers 5.23,
# models/owlv2/modeling_owlv2.py, Owlv2ClassPredictionHead).
EPSILON = 1e-6


class PatchDetector(torch.nn.Module):
    """[batch, 3, side, side] -> one box and class embedding per patch.

    Returns `boxes_cxcywh` [batch, P, 4] as shares of the square, `class_embeddings` [batch, P, D]
    of length 1, and `logit_shift`, `logit_scale` and `objectness` [batch, P, 1]. A prompt's logit
    is (class embedding . its own + shift) * scale; objectness is a logit that no prompt changes.

    Args:
        model: transformers' Owlv2ForObjectDetection.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers ships no types
        super().__init__()
        self.encoder, self.layer_norm = model.owlv2.vision_model, model.layer_norm
        self.class_head, self.box_head = model.class_head, model.box_head
        self.objectness_head = model.objectness_head
        self.register_buffer("box_bias", model.box_bias.clone(), persistent=False)

    box_bias: torch.Tensor

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See the class."""
        hidden = self.encoder.post_layernorm(self.encoder(pixel_values).last_hidden_state)
        patches = self.layer_norm(hidden[:, 1:] * hidden[:, :1])
        head = self.class_head
        embeddings = head.dense0(patches)
        lengths = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True)
        return (
            torch.sigmoid(self.box_head(patches) + self.box_bias),
            embeddings / (lengths + EPSILON),
            head.logit_shift(patches),
            head.elu(head.logit_scale(patches)) + 1,
            self.objectness_head(patches),
        )
