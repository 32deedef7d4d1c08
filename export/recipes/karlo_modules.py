"""karlo's parts as modules that export: one tensor per input, fixed shapes, guidance outside.

Where words guide, the batch is 2: the empty prompt first, then the words.

Rules:
    M1  The sine table of timesteps is computed once, in float32, and a whole timestep picks a row
        of it: a half-precision graph then has no angle of 999 radians to compute.
    M2  Attention is written out as MatMul, Softmax, MatMul, which every engine fuses.
"""

from __future__ import annotations

from typing import Any

import torch


class TimeTable(torch.nn.Module):
    """Timesteps int64 [N] -> their sines and cosines [N, width] (rule M1).

    Args:
        timesteps: diffusers' `Timesteps`, which has no weights.
        count: Number of training timesteps.
    """

    table: torch.Tensor

    def __init__(self, timesteps: Any, count: int) -> None:  # noqa: ANN401 - diffusers has no types
        super().__init__()
        rows = timesteps(torch.arange(count)).to(torch.float32)
        self.register_buffer("table", rows, persistent=False)

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.table[timesteps]


class WordEncoder(torch.nn.Module):
    """Token ids [1, L] -> embedding [1, D], read at the end token, and hidden states [1, L, W].

    The end token is the first of its kind and has the largest id; its place comes from comparisons,
    as in clip_modules.TextEncoder. Unlike there, the embedding keeps its length.

    Args:
        model: transformers' CLIPTextModelWithProjection.
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

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        hidden = self.encoder(input_ids).last_hidden_state
        rank = self.rank + (input_ids == self._end).to(hidden.dtype) * self._above
        chosen = (rank == rank.amax(dim=1, keepdim=True)).to(hidden.dtype)
        return self.projection((hidden * chosen[:, :, None]).sum(dim=1)), hidden


class PictureEncoder(torch.nn.Module):
    """Pixels [1, 3, side, side] -> embedding [1, D], which keeps its length.

    Args:
        model: transformers' CLIPVisionModelWithProjection.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - as before
        super().__init__()
        self.encoder, self.projection = model.vision_model, model.visual_projection

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.projection(self.encoder(pixel_values).pooler_output)  # type: ignore[no-any-return]


class PriorStep(torch.nn.Module):
    """One step of the prior: the clean embedding that it sees in a noisy one, [2, D].

    Args:
        model: diffusers' PriorTransformer.
        count: Number of training timesteps.
    """

    def __init__(self, model: Any, count: int) -> None:  # noqa: ANN401 - as before
        from diffusers.models.attention_processor import AttnProcessor

        super().__init__()
        model.set_attn_processor(AttnProcessor())  # M2
        model.time_proj = TimeTable(model.time_proj, count)
        self.model = model

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        text_embedding: torch.Tensor,
        text_hidden: torch.Tensor,
        attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        """See the class: [2, D], int64 [1], [2, D], [2, L, W], int64 [2, L]."""
        return self.model(  # type: ignore[no-any-return]
            latents, timestep, text_embedding, text_hidden, attention_mask, return_dict=False
        )[0]


class Conditions(torch.nn.Module):
    """A picture's embedding and words -> the decoder's context [2, L + 4, C] and time term [2, T].

    The first of the two is for guidance: a learned embedding stands for any picture.

    Args:
        model: diffusers' UnCLIPTextProjModel.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - as before
        super().__init__()
        self.model = model

    def forward(
        self,
        image_embedding: torch.Tensor,
        text_embedding: torch.Tensor,
        text_hidden: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class: [1, D], [2, D], [2, L, W]."""
        return self.model(  # type: ignore[no-any-return]
            image_embeddings=image_embedding,
            prompt_embeds=text_embedding,
            text_encoder_hidden_states=text_hidden,
            do_classifier_free_guidance=True,
        )


class DecoderStep(torch.nn.Module):
    """One step of the decoder: noise and where its variance lies, [2, 6, side, side].

    Args:
        model: diffusers' UNet2DConditionModel.
        count: Number of training timesteps.
    """

    def __init__(self, model: Any, count: int) -> None:  # noqa: ANN401 - as before
        from diffusers.models.attention_processor import AttnAddedKVProcessor

        super().__init__()
        model.set_attn_processor(AttnAddedKVProcessor())  # M2
        model.time_proj = TimeTable(model.time_proj, count)
        self.model = model

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor,
        time_term: torch.Tensor,
        attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        """See the class: [2, 3, side, side], int64 [1], [2, L + 4, C], [2, T], int64 [2, L + 4]."""
        return self.model(  # type: ignore[no-any-return]
            sample,
            timestep,
            encoder_hidden_states=context,
            class_labels=time_term,
            attention_mask=attention_mask,
            return_dict=False,
        )[0]


class SuperStep(torch.nn.Module):
    """One step of the enlargement: the noise in the first three of six channels.

    Args:
        model: diffusers' UNet2DModel.
        count: Number of training timesteps.
    """

    def __init__(self, model: Any, count: int) -> None:  # noqa: ANN401 - as before
        super().__init__()
        model.time_proj = TimeTable(model.time_proj, count)
        self.model = model

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """See the class: [1, 6, side, side], int64 [1] -> [1, 3, side, side]."""
        return self.model(sample, timestep, return_dict=False)[0]  # type: ignore[no-any-return]
