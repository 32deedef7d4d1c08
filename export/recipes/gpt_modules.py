"""Decoders of the GPT family as one torch module whose graph takes a prompt and a token alike.

    decoder   the next tokens of a sequence, from 1 to a piece of the prompt, and the keys and
              values of all before -> logits after the last, and these tokens' own keys and values

Rules:
    D1  One graph for the prompt and for each token after it, not one for each. Two would hold the
        weights twice, on the disk and on the device, and weights are nearly all there is to a
        decoder. In one engine the axis `tokens` is dynamic and everything else is fixed; its best
        shape is one token, since that is what runs hundreds of times.
    D2  The cache always has room for all positions, and what lies at or behind the first token's
        own position is masked. So the step of one token has one shape, for TensorRT one profile
        and one CUDA graph, for OpenVINO no new compilation as the text grows.
    D3  Only these tokens' keys and values are returned, and whoever runs it writes them into the
        cache in place.
    D4  Query heads that share keys and values (grouped-query attention) are stacked as rows of one
        product. Keys and values repeated per head would be read that many times.
    D5  Logits are those after the last token. A vocabulary of 150,000 times a prompt of 128 would
        be a quarter of the whole work, and 78 MB.
    D6  Positions are an input, so that a prompt's next piece knows where it stands. They follow
        each other; rotations are tables by position, computed in float32 as transformers does.

Matrix products are written `x @ weight + bias` on GPT-2's [in, out] weights and as linear layers
elsewhere. The output projection is the token table where the model ties them, read as it lies.

torch is imported here at once, so a recipe imports this file inside `load` only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

# Large enough for softmax to give exactly 0 in float32, and a number that float16 has.
_MASKED = -1e4

Tensors = tuple[torch.Tensor, ...]


class Places(NamedTuple):
    """What depends on the tokens' positions alone.

    Attributes:
        past: Added to the scores of cached keys, [batch, 1, 1, positions].
        own: Added to the scores of these tokens' own keys, [batch, 1, rows, tokens], with a row per
            query head of a group and token.
        cosine: Of the rotation, [batch, 1, tokens, d]; None where positions are embedded.
        sine: As `cosine`.
    """

    past: torch.Tensor
    own: torch.Tensor
    cosine: torch.Tensor | None = None
    sine: torch.Tensor | None = None


class _Decoder(nn.Module):
    """What both families do alike: masks, layers, the last token's logits.

    Args:
        table: The token table, [vocabulary, width].
        layers: Blocks that take hidden states, places, and a past key and value.
        norm: What is done to the last hidden state.
        positions: How many tokens the cache has room for.
        share: How many query heads share a key.
    """

    slots: torch.Tensor

    def __init__(
        self, table: nn.Embedding, layers: list[nn.Module], norm: nn.Module, positions: int,
        share: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.table, self.layers, self.norm = table, nn.ModuleList(layers), norm
        self.share = share
        self.register_buffer("slots", torch.arange(positions), persistent=False)

    def forward(self, token: torch.Tensor, position: torch.Tensor, *past: torch.Tensor) -> Tensors:
        """Take the next tokens.

        Args:
            token: int64 [batch, tokens].
            position: int64 [batch, tokens], how many came before each; they follow each other.
            *past: Key and value of each layer in turn, [batch, groups, positions, d].

        Returns:
            Logits [batch, vocabulary] after the last token, then these tokens' key and value of
            each layer in turn, [batch, groups, tokens, d].
        """
        hidden, places, fresh = self.embed(token, position), self.places(position), []
        for index, layer in enumerate(self.layers):
            hidden, key, value = layer(hidden, places, *past[2 * index : 2 * index + 2])
            fresh += [key, value]
        return (self.head(self.norm(hidden[:, -1])), *fresh)

    def embed(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Hidden states to begin with, [batch, tokens, width]."""
        del position
        embedded: torch.Tensor = self.table(token)
        return embedded

    def places(self, position: torch.Tensor) -> Places:
        """Masks of the cache and among the tokens themselves (rule D2)."""
        rows = position.repeat(1, self.share)
        past = torch.where(self.slots < position[:, :1], 0.0, _MASKED)[:, None, None, :]
        own = torch.where(position[:, None, :] <= rows[:, :, None], 0.0, _MASKED)[:, None]
        return Places(past, own)

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of one hidden state each, by the token table."""
        return nn.functional.linear(hidden, self.table.weight)


class Gpt2Decoder(_Decoder):
    """GPT-2 (transformers' GPT2LMHeadModel) with a cache of `positions`."""

    def __init__(self, model: Any, positions: int) -> None:  # noqa: ANN401 - transformers' own
        body = model.transformer
        layers = [_Gpt2Layer(layer) for layer in body.h]
        super().__init__(body.wte, list(layers), body.ln_f, positions, share=1)
        self.wpe = body.wpe

    def embed(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """See _Decoder."""
        embedded: torch.Tensor = self.table(token) + self.wpe(position)
        return embedded


class _Gpt2Layer(nn.Module):
    def __init__(self, layer: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.ln_1, self.ln_2 = layer.ln_1, layer.ln_2
        self.c_attn, self.out = layer.attn.c_attn, layer.attn.c_proj
        self.c_fc, self.c_proj = layer.mlp.c_fc, layer.mlp.c_proj
        self.heads, self.scale = layer.attn.num_heads, layer.attn.scaling

    def forward(
        self, hidden: torch.Tensor, places: Places, past_key: torch.Tensor, past_value: torch.Tensor
    ) -> Tensors:
        joined = _times(self.ln_1(hidden), self.c_attn)
        query, key, value = (_heads(item, self.heads) for item in joined.chunk(3, dim=-1))
        attended = attend(query * self.scale, (key, value), (past_key, past_value), places)
        hidden = hidden + _times(_joined(attended), self.out)
        inner = nn.functional.gelu(_times(self.ln_2(hidden), self.c_fc), approximate="tanh")
        return hidden + _times(inner, self.c_proj), key, value


class LlamaDecoder(_Decoder):
    """Llama's family (LlamaForCausalLM, Qwen2ForCausalLM): rotations, RMS norms, shared keys."""

    cosines: torch.Tensor
    sines: torch.Tensor

    def __init__(self, model: Any, positions: int) -> None:  # noqa: ANN401
        body, config = model.model, model.config
        layers = [_LlamaLayer(layer) for layer in body.layers]
        share = config.num_attention_heads // config.num_key_value_heads
        super().__init__(body.embed_tokens, list(layers), body.norm, positions, share)
        self.lm_head = None if config.tie_word_embeddings else model.lm_head
        slots = torch.arange(positions)[None]
        cosines, sines = body.rotary_emb(torch.zeros(1), slots)
        self.register_buffer("cosines", cosines[0], persistent=False)
        self.register_buffer("sines", sines[0], persistent=False)

    def places(self, position: torch.Tensor) -> Places:
        """See _Decoder; with the rotations of rule D6."""
        plain = super().places(position)
        cosine, sine = (
            nn.functional.embedding(position, table)[:, None]
            for table in (self.cosines, self.sines)
        )
        return plain._replace(cosine=cosine, sine=sine)

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """See _Decoder; by a table of its own where the model has one."""
        if self.lm_head is None:
            return super().head(hidden)
        logits: torch.Tensor = self.lm_head(hidden)
        return logits


class _LlamaLayer(nn.Module):
    def __init__(self, layer: Any) -> None:  # noqa: ANN401
        super().__init__()
        own = layer.self_attn
        self.norm, self.inner_norm = layer.input_layernorm, layer.post_attention_layernorm
        self.q_proj, self.k_proj, self.v_proj = own.q_proj, own.k_proj, own.v_proj
        self.o_proj, self.mlp = own.o_proj, layer.mlp
        self.heads = own.q_proj.out_features // own.head_dim
        self.groups = own.k_proj.out_features // own.head_dim
        self.scale = own.scaling

    def forward(
        self, hidden: torch.Tensor, places: Places, past_key: torch.Tensor, past_value: torch.Tensor
    ) -> Tensors:
        normed = self.norm(hidden)
        query = rotated(_heads(self.q_proj(normed), self.heads), places)
        key = rotated(_heads(self.k_proj(normed), self.groups), places)
        value = _heads(self.v_proj(normed), self.groups)
        attended = attend(query * self.scale, (key, value), (past_key, past_value), places)
        hidden = hidden + self.o_proj(_joined(attended))
        return hidden + self.mlp(self.inner_norm(hidden)), key, value


def attend(query: torch.Tensor, own: Tensors, past: Tensors, places: Places) -> torch.Tensor:
    """Attention of new tokens to the cache and to each other (rules D2 and D4).

    Args:
        query: Scaled, [batch, heads, tokens, d].
        own: These tokens' keys and values, [batch, groups, tokens, d].
        past: Cached keys and values, [batch, groups, positions, d].
        places: Their masks.

    Returns:
        [batch, heads, tokens, d].
    """
    batch, heads, count, size = query.shape
    (key, value), (past_key, past_value) = own, past
    rows = query.reshape(batch, key.shape[1], heads // key.shape[1] * count, size)
    before = rows @ past_key.transpose(2, 3) + places.past
    among = rows @ key.transpose(2, 3) + places.own
    # Scores are joined, not keys: a few numbers move instead of the cache.
    weights = torch.cat([before, among], dim=-1).softmax(dim=-1)
    slots = past_key.shape[2]
    attended = weights[..., :slots] @ past_value + weights[..., slots:] @ value
    return attended.reshape(batch, heads, count, size)


def rotated(tensor: torch.Tensor, places: Places) -> torch.Tensor:
    """Rotary position embedding: each pair (i, i + d / 2) turned by its position's angle."""
    if places.cosine is None or places.sine is None:
        raise ValueError("places without rotations")
    first, second = tensor.chunk(2, dim=-1)
    return tensor * places.cosine + torch.cat([-second, first], -1) * places.sine


def _times(tensor: torch.Tensor, layer: Any) -> torch.Tensor:  # noqa: ANN401 - Conv1D
    """GPT-2's Conv1D, whose weight is [in, out], without flattening its input."""
    product: torch.Tensor = tensor @ layer.weight + layer.bias
    return product


def _heads(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """[batch, tokens, heads * d] -> [batch, heads, tokens, d]."""
    batch, count, width = tensor.shape
    return tensor.reshape(batch, count, heads, width // heads).transpose(1, 2)


def _joined(tensor: torch.Tensor) -> torch.Tensor:
    batch, heads, count, size = tensor.shape
    return tensor.transpose(1, 2).reshape(batch, count, heads * size)
