"""Grounding DINO's two parts as modules that export, on a canvas of one size.

The layers are transformers' own (5.23, models/grounding_dino/modeling_grounding_dino.py); what
stands between them is written anew, since there it makes shapes and masks at run time:
    - which pixels are picture is said by its width and height alone, so the masks of all levels,
      their position codes and proposals come from comparisons with constants;
    - text is padded to one length, and `blocks` says which tokens see each other;
    - masks add -1e4 where the library adds the lowest float, which half precision does not hold;
    - deformable attention has the shapes of its levels as constants, and no check of them;
    - a proposal that may not be chosen is 1e4 before the sigmoid and not infinity: both give 1.
"""

from __future__ import annotations

from typing import Any

import torch

NEVER = 1e4  # exp(-NEVER) and 1 - sigmoid(NEVER) are 0 in float32
_LEAST = 1e-5  # torch.special.logit(reference, eps=1e-5) in the decoder


class TokenEncoder(torch.nn.Module):
    """Token ids, positions and blocks [1, tokens] -> features [1, tokens, D] for the picture part.

    Args:
        model: transformers' GroundingDinoForObjectDetection.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers ships no types
        super().__init__()
        self.embeddings = model.model.text_backbone.embeddings
        self.encoder = model.model.text_backbone.encoder
        self.projection = model.model.text_projection

    def forward(
        self, input_ids: torch.Tensor, text_positions: torch.Tensor, text_blocks: torch.Tensor
    ) -> torch.Tensor:
        """See the class."""
        hidden = self.embeddings(
            input_ids=input_ids,
            token_type_ids=torch.zeros_like(input_ids),
            position_ids=text_positions,
        )
        encoded = self.encoder(hidden, attention_mask=apart(text_blocks))
        features: torch.Tensor = self.projection(encoded.last_hidden_state)
        return features


class Grounder(torch.nn.Module):
    """A picture on its canvas and tokens' features to boxes and a logit per token.

    Inputs: `pixel_values` [1, 3, H, W]; `valid_wh` [1, 2], the picture's size on the canvas;
    `text_features` [1, T, D], `text_mask`, `text_positions` and `text_blocks` [1, T].
    Returns `logits` [1, queries, T], meaningless where the mask is 0, and `boxes_cxcywh`
    [1, queries, 4] as shares of the picture without its padding.

    Args:
        model: transformers' GroundingDinoForObjectDetection.
        canvas_hw: Height and width of the canvas in pixels.
        longest: Most tokens of a text.
    """

    text_codes: torch.Tensor
    level_embed: torch.Tensor

    def __init__(self, model: Any, canvas_hw: tuple[int, int], longest: int) -> None:  # noqa: ANN401
        super().__init__()
        self.inner, self.head = model.model, model.bbox_embed[-1]
        del self.inner.text_backbone, self.inner.text_projection
        # No feature map is read behind it, and no checkpoint has it.
        self.inner.backbone.conv_encoder.model.swin.layernorm = torch.nn.Identity()
        self.canvas_hw, self.width = canvas_hw, model.config.d_model
        self.queries = model.config.num_queries
        for layer in self.inner.encoder.layers:
            layer.deformable_layer.self_attn = _Sampling(layer.deformable_layer.self_attn)
        for layer in self.inner.decoder.layers:
            layer.encoder_attn = _Sampling(layer.encoder_attn)
        codes = _encoded(torch.arange(longest, dtype=torch.float32), self.width, 10_000)
        self.register_buffer("text_codes", codes, persistent=False)

    def forward(
        self,
        pixel_values: torch.Tensor,
        valid_wh: torch.Tensor,
        text_features: torch.Tensor,
        text_mask: torch.Tensor,
        text_positions: torch.Tensor,
        text_blocks: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        maps = self._maps(pixel_values)
        levels = _Levels(maps, valid_wh, self.canvas_hw)
        codes = [
            levels.code(number, self.width // 2) + self.inner.level_embed[number]
            for number in range(len(maps))
        ]
        vision = torch.cat([item.flatten(2).transpose(1, 2) for item in maps], 1)
        text = text_features, text_mask > 0
        vision, words = self._encoded(
            vision, torch.cat(codes, 1), levels, text, (text_positions, text_blocks)
        )
        return self._decoded(vision, words, text[1], levels)

    def _maps(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of all levels, each of the model's width."""
        backbone = self.inner.backbone.conv_encoder.model(pixel_values, return_dict=True)
        features = backbone.feature_maps
        projections = self.inner.input_proj_vision
        maps = [project(item) for project, item in zip(projections, features, strict=False)]
        for level in range(len(features), len(projections)):
            last = features[-1] if level == len(features) else maps[-1]
            maps.append(projections[level](last))
        return maps

    def _encoded(
        self,
        vision: torch.Tensor,
        vision_codes: torch.Tensor,
        levels: _Levels,
        text: tuple[torch.Tensor, torch.Tensor],
        places: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Picture and words after the encoder: each looks at the other, then at itself."""
        words, real = text
        word_codes, word_mask = self.text_codes[places[0]], apart(places[1])
        points = levels.points()
        for layer in self.inner.encoder.layers:
            (vision, _), (words, _) = layer.fusion_layer(
                vision_features=vision,
                text_features=words,
                attention_mask_vision=~levels.mask,
                attention_mask_text=~real,
            )
            words, _ = layer.text_enhancer_layer(
                hidden_states=words, attention_masks=word_mask, position_embeddings=word_codes
            )
            vision, _ = layer.deformable_layer(
                hidden_states=vision,
                attention_mask=levels.mask,
                position_embeddings=vision_codes,
                reference_points=points,
                **levels.shapes,
            )
        return vision, words

    def _chosen(
        self, vision: torch.Tensor, words: torch.Tensor, real: torch.Tensor, levels: _Levels
    ) -> torch.Tensor:
        """Reference boxes [1, queries, 4]: the proposals that fit some token best."""
        proposals, allowed = levels.proposals()
        kept = self.inner.enc_output(vision * allowed)
        objects = self.inner.enc_output_norm(kept)
        fits = objects @ words.transpose(-1, -2) - NEVER * (~real[:, None]).to(objects.dtype)
        best = fits.amax(-1).topk(self.queries, dim=1).indices
        boxes = self.inner.encoder_output_bbox_embed(objects) + proposals
        chosen: torch.Tensor = boxes.gather(1, best[..., None].expand(-1, -1, 4)).sigmoid()
        return chosen

    def _decoded(
        self, vision: torch.Tensor, words: torch.Tensor, real: torch.Tensor, levels: _Levels
    ) -> tuple[torch.Tensor, torch.Tensor]:
        decoder = self.inner.decoder
        reference = self._chosen(vision, words, real, levels)
        hidden = self.inner.query_position_embeddings.weight[None]
        word_mask = -NEVER * (~real[:, None, None]).to(vision.dtype)
        ratios = torch.cat([levels.ratios, levels.ratios], -1)[:, None]
        before = reference
        for number, layer in enumerate(decoder.layers):
            before, points = reference, reference[:, :, None] * ratios
            codes = decoder.reference_points_head(_box_codes(points[:, :, 0], self.width // 2))
            hidden = layer(
                hidden_states=hidden,
                position_embeddings=codes,
                reference_points=points,
                vision_encoder_hidden_states=vision,
                vision_encoder_attention_mask=levels.mask,
                text_encoder_hidden_states=words,
                text_encoder_attention_mask=word_mask,
                **levels.shapes,
            )[0]
            reference = (decoder.bbox_embed[number](hidden) + _logit(before)).sigmoid()
        last = decoder.layer_norm(hidden)
        boxes = (self.head(last) + _logit(before)).sigmoid()
        return last @ words.transpose(-1, -2), boxes


class _Sampling(torch.nn.Module):
    """Deformable attention over several levels, in place of transformers' module of it.

    Zhu et al., Deformable DETR, arXiv 2010.04159, equation 3: each head of each query looks at a
    few points around its reference on every level.

    Args:
        module: transformers' GroundingDinoMultiscaleDeformableAttention, whose weights it takes.
    """

    def __init__(self, module: Any) -> None:  # noqa: ANN401 - as before
        super().__init__()
        self.sampling_offsets, self.attention_weights = (
            module.sampling_offsets, module.attention_weights
        )  # fmt: skip
        self.value_proj, self.output_proj = module.value_proj, module.output_proj
        self.heads, self.levels, self.points = module.n_heads, module.n_levels, module.n_points

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        position_embeddings: torch.Tensor,
        reference_points: torch.Tensor,
        spatial_shapes_list: list[tuple[int, int]],
        **_unused: Any,  # noqa: ANN401 - what the layers pass beside
    ) -> tuple[torch.Tensor, None]:
        """As the module whose place it takes; the second value is not used by any layer."""
        query = hidden_states + position_embeddings
        count, heads, points = query.shape[1], self.heads, self.points
        value = self.value_proj(encoder_hidden_states)
        value = torch.where(attention_mask[..., None], value, torch.zeros_like(value))
        value = value.view(1, value.shape[1], heads, -1).permute(0, 2, 3, 1).flatten(0, 1)
        offsets = self.sampling_offsets(query).view(count, heads, self.levels, points, 2)
        weights = self.attention_weights(query).view(count, heads, self.levels * points)
        weights = weights.softmax(-1).transpose(0, 1)[:, None]
        reference = reference_points[0][:, None, :, None]
        if reference.shape[-1] == 2:
            sizes = torch.tensor([[w, h] for h, w in spatial_shapes_list], dtype=torch.float32)
            places = reference + offsets / sizes[None, None, :, None]
        else:
            places = reference[..., :2] + offsets * reference[..., 2:] * (0.5 / points)
        grids = (2 * places - 1).permute(2, 1, 0, 3, 4)
        maps = torch.split(value, [h * w for h, w in spatial_shapes_list], dim=-1)
        seen = [
            torch.nn.functional.grid_sample(
                item.reshape(*item.shape[:2], *shape),
                grids[level],
                padding_mode="zeros",
                align_corners=False,
            )
            for level, (item, shape) in enumerate(zip(maps, spatial_shapes_list, strict=True))
        ]
        mixed = (torch.cat(seen, -1) * weights).sum(-1).flatten(0, 1).transpose(0, 1)
        return self.output_proj(mixed[None]), None


class _Levels:
    """What is picture and what is padding on every level, from the picture's size alone."""

    def __init__(
        self, maps: list[torch.Tensor], valid_wh: torch.Tensor, canvas_hw: tuple[int, int]
    ) -> None:
        self.sizes_hw = [(int(item.shape[-2]), int(item.shape[-1])) for item in maps]
        valid = valid_wh.clamp(min=1)
        self.rows = [_inside(h, canvas_hw[0], valid[:, 1:]) for h, _ in self.sizes_hw]
        self.columns = [_inside(w, canvas_hw[1], valid[:, :1]) for _, w in self.sizes_hw]
        both = zip(self.rows, self.columns, strict=True)
        grids = [(r[:, :, None] * c[:, None, :]).flatten(1) for r, c in both]
        self.mask = torch.cat(grids, 1) > 0
        self.filled_hw = [
            (r.sum(1, keepdim=True), c.sum(1, keepdim=True))
            for r, c in zip(self.rows, self.columns, strict=True)
        ]
        pairs = zip(self.filled_hw, self.sizes_hw, strict=True)
        shares = [torch.cat([f[1] / w, f[0] / h], 1) for f, (h, w) in pairs]
        self.ratios = torch.stack(shares, 1)
        starts = [0]
        for height, width in self.sizes_hw[:-1]:
            starts.append(starts[-1] + height * width)
        self.shapes = {
            "spatial_shapes": torch.tensor(self.sizes_hw),
            "spatial_shapes_list": self.sizes_hw,
            "level_start_index": torch.tensor(starts),
        }

    def code(self, level: int, width: int) -> torch.Tensor:
        """Position codes [1, h * w, 2 * width]: GroundingDinoSinePositionEmbedding."""
        (h, w), (rows, columns) = self.sizes_hw[level], (self.rows[level], self.columns[level])
        filled_h, filled_w = self.filled_hw[level]
        down = torch.minimum(torch.arange(1.0, h + 1)[None], filled_h) / (filled_h + 1e-6)
        along = torch.minimum(torch.arange(1.0, w + 1)[None], filled_w) / (filled_w + 1e-6)
        y = (down[:, :, None] * columns[:, None, :]).flatten(1)
        x = (along[:, None, :] * rows[:, :, None]).flatten(1)
        return torch.cat([_encoded(y, width, 20), _encoded(x, width, 20)], -1)

    def points(self) -> torch.Tensor:
        """Where each place looks from on every level, [1, places, levels, 2]."""
        found = []
        for level, (h, w) in enumerate(self.sizes_hw):
            y = (torch.arange(h) + 0.5)[None] / (self.ratios[:, level, 1:] * h)
            x = (torch.arange(w) + 0.5)[None] / (self.ratios[:, level, :1] * w)
            grid = torch.stack(
                [x[:, None, :].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)], -1
            )
            found.append(grid.flatten(1, 2))
        return torch.cat(found, 1)[:, :, None] * self.ratios[:, None]

    def proposals(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Each place as a box before the sigmoid [1, places, 4], and 1 where it may be chosen."""
        found = []
        for level, (h, w) in enumerate(self.sizes_hw):
            filled_h, filled_w = self.filled_hw[level]
            y = ((torch.arange(h) + 0.5)[None] / filled_h)[:, :, None].expand(-1, -1, w)
            x = ((torch.arange(w) + 0.5)[None] / filled_w)[:, None, :].expand(-1, h, -1)
            side = torch.full_like(x, 0.05 * 2.0**level)
            found.append(torch.stack([x, y, side, side], -1).flatten(1, 2))
        boxes = torch.cat(found, 1)
        allowed = ((boxes > 0.01) & (boxes < 0.99)).all(-1) & self.mask
        inner = boxes.clamp(0.01, 0.99)
        raw = torch.log(inner / (1 - inner))
        return torch.where(allowed[..., None], raw, NEVER), allowed[..., None].to(boxes.dtype)


def _inside(size: int, canvas: int, filled: torch.Tensor) -> torch.Tensor:
    """1 where a place of a level is picture, [1, size]: nearest neighbour of the pixel mask."""
    nearest = torch.tensor([place * canvas // size for place in range(size)])
    return (nearest[None] < filled).to(torch.float32)


def apart(blocks: torch.Tensor) -> torch.Tensor:
    """What is added to attention [1, 1, T, T] so that tokens see their own block alone."""
    other = blocks[:, None, :] != blocks[:, :, None]
    return -NEVER * other[:, None].to(torch.float32)


def _encoded(places: torch.Tensor, width: int, temperature: int) -> torch.Tensor:
    """Sine and cosine codes [..., width] of places; 1 is one turn."""
    steps = torch.arange(width, dtype=torch.float32)
    turns = temperature ** (2 * torch.div(steps, 2, rounding_mode="floor") / width)
    angles = places[..., None] * (2 * torch.pi) / turns
    pairs = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], -1)
    return pairs.flatten(-2)


def _box_codes(boxes: torch.Tensor, width: int) -> torch.Tensor:
    """Codes of boxes [..., 4] in the order y, x, w, h."""
    return torch.cat([_encoded(boxes[..., axis], width, 10_000) for axis in (1, 0, 2, 3)], -1)


def _logit(shares: torch.Tensor) -> torch.Tensor:
    inner = shares.clamp(_LEAST, 1 - _LEAST)
    return torch.log(inner / (1 - inner))
