"""BERT with its words at given places as a module that exports."""

from __future__ import annotations

from typing import Any

import torch


class FillMask(torch.nn.Module):
    """Token ids and mask [batch, length], places [batch, masks] -> logits [batch, masks, words].

    Args:
        model: transformers' BertForMaskedLM.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers ships no types
        super().__init__()
        self.bert = model.bert
        self.transform = model.cls.predictions.transform
        self.decoder = model.cls.predictions.decoder

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        mask_positions: torch.Tensor,
    ) -> torch.Tensor:
        """See the class."""
        hidden = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        width = hidden.shape[-1]
        places = mask_positions[:, :, None].expand(-1, -1, width)
        picked = self.transform(torch.gather(hidden, 1, places))
        # As rows, so that the graph reads the table of tokens as it lies and holds it once.
        batch, masks = mask_positions.shape
        logits: torch.Tensor = self.decoder(picked.reshape(batch * masks, width))
        return logits.reshape(batch, masks, logits.shape[-1])
