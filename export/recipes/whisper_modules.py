"""Whisper as three torch modules whose graphs make the device's loop simple.

    encoder   once per window of 30 s: log-mel -> hidden states
    cross     once per window: hidden states -> the keys and values all decoder layers attend to
    decoder   once per token: its id and position, keys and values of the tokens before and of the
              sound -> logits, and this token's own keys and values

Rules:
    D1  The cross keys and values are a graph of their own. Per token they would be computed in
        vain; in the encoder's graph its one output of 2 MB, which other encoders have as well and
        which can be judged and kept for hundreds of utterances, would become eight of 18 MB.
    D2  Every shape but the batch is fixed: the cache always has room for all positions, and what
        lies at or behind the token's own position is masked. So an engine needs one profile, no
        empty tensor on the first step, and can be captured as one CUDA graph.
    D3  The decoder returns this token's keys and values alone, and whoever runs it writes them
        into the cache in place; a grown copy of the cache would be 5 MB per token.
    D4  Keys and values are one tensor per layer. Stacked into one, each step would copy its
        layer's slice out again: a fifth more time per token on two CPU engines.

torch is imported here at once, so a recipe imports this file inside `load` only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# Large enough for softmax to give exactly 0 in float32, and a number that float16 has.
_MASKED = -1e4


class Encoder(nn.Module):
    """log-mel [batch, mel bins, frames] -> hidden states [batch, frames / 2, width]."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers ships no types
        super().__init__()
        self.encoder = model.model.encoder

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """See the class."""
        hidden: torch.Tensor = self.encoder(log_mel).last_hidden_state
        return hidden


class Cross(nn.Module):
    """Hidden states -> key, value of each decoder layer in turn, [batch, heads, time, d]."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__()
        attentions = [layer.encoder_attn for layer in model.model.decoder.layers]
        self.keys = nn.ModuleList(attention.k_proj for attention in attentions)
        self.values = nn.ModuleList(attention.v_proj for attention in attentions)
        self.heads = int(model.config.decoder_attention_heads)

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See the class."""
        return tuple(
            _heads(project(hidden), self.heads)
            for pair in zip(self.keys, self.values, strict=True)
            for project in pair
        )


class DecoderStep(nn.Module):
    """One token through the decoder (rules D2 to D4)."""

    positions: torch.Tensor

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__()
        decoder = model.model.decoder
        self.embed_tokens, self.embed_positions = decoder.embed_tokens, decoder.embed_positions
        heads = int(model.config.decoder_attention_heads)
        self.layers = nn.ModuleList(_Layer(layer, heads) for layer in decoder.layers)
        self.norm = decoder.layer_norm
        self.register_buffer("positions", torch.arange(self.embed_positions.num_embeddings))

    def forward(
        self, token: torch.Tensor, position: torch.Tensor, *caches: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Take one token of each sequence.

        Args:
            token: int64 [batch].
            position: int64 [batch], how many came before it.
            *caches: Past key and value of each layer in turn, [batch, heads, positions, d], then
                cross key and value of each layer, [batch, heads, time, d].

        Returns:
            Logits [batch, vocabulary], then this token's key and value of each layer in turn,
            [batch, heads, 1, d].
        """
        past, cross = caches[: len(caches) // 2], caches[len(caches) // 2 :]
        hidden = self.embed_tokens(token) + self.embed_positions.weight[position]
        mask = torch.where(self.positions < position[:, None], 0.0, _MASKED)[:, None, None, :]
        hidden, fresh = hidden[:, None, :], []
        for index, layer in enumerate(self.layers):
            pair = slice(2 * index, 2 * index + 2)
            hidden, key, value = layer(hidden, mask, *past[pair], *cross[pair])
            fresh += [key, value]
        # Whisper's output projection is its token embedding.
        logits = nn.functional.linear(self.norm(hidden)[:, 0], self.embed_tokens.weight)
        return (logits, *fresh)


class _Layer(nn.Module):
    def __init__(self, layer: Any, heads: int) -> None:  # noqa: ANN401
        super().__init__()
        own, cross = layer.self_attn, layer.encoder_attn
        self.own_norm, self.cross_norm = layer.self_attn_layer_norm, layer.encoder_attn_layer_norm
        self.q_proj, self.k_proj, self.v_proj = own.q_proj, own.k_proj, own.v_proj
        self.own_out = own.out_proj
        self.cross_q, self.cross_out = cross.q_proj, cross.out_proj
        self.norm, self.fc1, self.fc2 = layer.final_layer_norm, layer.fc1, layer.fc2
        self.heads, self.scale = heads, own.head_dim**-0.5

    def forward(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor,
        past_key: torch.Tensor,
        past_value: torch.Tensor,
        cross_key: torch.Tensor,
        cross_value: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        normed = self.own_norm(hidden)
        query = _heads(self.q_proj(normed) * self.scale, self.heads)
        key, value = (_heads(p(normed), self.heads) for p in (self.k_proj, self.v_proj))
        before = query @ past_key.transpose(2, 3) + mask
        # The token's own score and value are joined here and not in the cache: 65 numbers move
        # instead of the cache.
        weights = torch.cat([before, query @ key.transpose(2, 3)], dim=-1).softmax(dim=-1)
        attended = weights[..., :-1] @ past_value + weights[..., -1:] * value
        hidden = hidden + self.own_out(_joined(attended))
        query = _heads(self.cross_q(self.cross_norm(hidden)) * self.scale, self.heads)
        weights = (query @ cross_key.transpose(2, 3)).softmax(dim=-1)
        hidden = hidden + self.cross_out(_joined(weights @ cross_value))
        inner = nn.functional.gelu(self.fc1(self.norm(hidden)))
        return hidden + self.fc2(inner), key, value


def _heads(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """[batch, time, heads * d] -> [batch, heads, time, d]."""
    batch, time, width = tensor.shape
    return tensor.reshape(batch, time, heads, width // heads).transpose(1, 2)


def _joined(tensor: torch.Tensor) -> torch.Tensor:
    batch, heads, time, width = tensor.shape
    return tensor.transpose(1, 2).reshape(batch, time, heads * width)
