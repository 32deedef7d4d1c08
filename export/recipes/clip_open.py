"""Checkpoints in open_clip's own names, turned into transformers' names.

Source: mlfoundations/open_clip v3.3.0, src/open_clip/model.py and transformer.py (CLIP,
VisionTransformer, ResidualAttentionBlock) and factory.py, which writes open_clip_config.json.

Rules:
    O1  Every tensor of the file has one place in transformers' model; what has none stays under its
        own name, so that loading refuses it.
    O2  One matrix for query, key and value is cut in three, in that order. The two projections are
        stored the other way round.
    O3  The activation is stated in open_clip_config.json alone (`quick_gelu`), so a file without it
        is refused. Sizes and the pictures' mean and deviation are held to the recipe's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.recipes.published import read_json
from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.export.recipes.clip import Size
    from jetlift.runtime.manifest import ImagePreprocess

    State = Mapping[str, npt.NDArray[Any]]

CONFIG = "open_clip_config.json"
MARK = "visual.conv1.weight"  # a name that transformers' checkpoints do not have
_HEAD_WIDTH = 64  # open_clip's default: heads = width / 64
_PLACES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.proj": "visual_projection.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
_NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
_IN_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_TURNED = ("visual.proj", "text_projection")
_LAYER = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_JOINED = "attn.in_proj_"


def renamed(state: State) -> dict[str, npt.NDArray[Any]]:
    """The same tensors under transformers' names (rules O1 and O2)."""
    found: dict[str, npt.NDArray[Any]] = {}
    for name, value in state.items():
        layer = _LAYER.fullmatch(name)
        stem, _, kind = name.rpartition(".")
        if layer is not None:
            found |= _in_layer(layer, value)
        elif name in _PLACES:
            turned = np.ascontiguousarray(value.T) if name in _TURNED else value
            found[_PLACES[name]] = turned
        elif stem in _NORMS:
            found[f"{_NORMS[stem]}.{kind}"] = value
        else:
            found[name] = value
    return found


def _in_layer(layer: re.Match[str], value: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """One tensor of a layer, by transformers' names for it."""
    tower = "vision_model" if layer[1] else "text_model"
    start = f"{tower}.encoder.layers.{layer[2]}"
    if layer[3].startswith(_JOINED):
        kind = layer[3].removeprefix(_JOINED)
        pieces = np.split(value, 3) if len(value) % 3 == 0 else [value]
        names = [f"{start}.self_attn.{one}_proj.{kind}" for one in "qkv"]
        return dict(zip(names, pieces, strict=False))
    stem, _, kind = layer[3].rpartition(".")
    return {f"{start}.{_IN_LAYER.get(stem, stem)}.{kind}": value}


def activation_of(folder: Path, size: Size, preprocess: ImagePreprocess) -> str:
    """The activation a checkpoint was trained with, by transformers' name (rule O3).

    Raises:
        InputError: The folder does not say, or is of another size, mean or deviation.
    """
    stated = read_json(folder / CONFIG)
    model = stated.get("model_cfg")
    if not isinstance(model, dict):
        raise InputError(f"{folder / CONFIG} has no model_cfg", expected="What open_clip writes")
    picture, text = model.get("vision_cfg") or {}, model.get("text_cfg") or {}
    wanted: dict[str, tuple[Any, Any]] = {
        "embed_dim": (model.get("embed_dim"), size.embedding),
        "vision_cfg.image_size": (picture.get("image_size"), size.picture_px),
        "vision_cfg.patch_size": (picture.get("patch_size"), size.patch_px),
        "vision_cfg.width": (picture.get("width"), size.picture.width),
        "vision_cfg.layers": (picture.get("layers"), size.picture.layers),
        "vision_cfg.head_width": (
            picture.get("head_width", _HEAD_WIDTH),
            size.picture.width // size.picture.heads,
        ),
        "text_cfg.width": (text.get("width"), size.text.width),
        "text_cfg.layers": (text.get("layers"), size.text.layers),
        "text_cfg.heads": (text.get("heads"), size.text.heads),
        "text_cfg.vocab_size": (text.get("vocab_size"), size.vocabulary),
        "text_cfg.context_length": (text.get("context_length"), size.context),
    }
    pixels = stated.get("preprocess_cfg") or {}
    for name, ours in (("mean", preprocess.mean), ("std", preprocess.std)):
        theirs = pixels.get(name, ours)
        wanted[f"preprocess_cfg.{name}"] = (tuple(theirs), tuple(ours))
    for name, (theirs, ours) in wanted.items():
        if theirs != ours:
            raise InputError(
                f"{folder} is an open_clip model with {name} {theirs}",
                expected=f"{ours}, as the chosen model has it",
                do="Choose the model of that size (jetlift models)",
            )
    return "quick_gelu" if model.get("quick_gelu", False) else "gelu"
