"""A tiny karlo: its bundle, diffusers' models of the same weights, a checkpoint of its form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import clip_bpe, karlo, karlo_weights
from jetlift.export.recipes.karlo_models import TINY
from jetlift.runtime.bundle import Bundle

if TYPE_CHECKING:
    from pathlib import Path

SEED = 3
RECIPE = karlo.recipe("karlo-tiny", "karlo, tiny", TINY, "nobody/none", 0)


def bundle_in(folder: Path) -> Bundle:
    """The tiny bundle at fp32 and fp16 with random weights, made once per folder."""
    out = folder / "karlo-tiny"
    if out.exists():
        return Bundle.open(out)
    return export_recipe(RECIPE, f"random:{SEED}", Request(out, ("fp32", "fp16")))


def models() -> dict[str, Any]:
    """diffusers' and transformers' own models, by part, untouched by the export."""
    return {part: karlo_weights.random_model(part, TINY, SEED) for part in karlo_weights.FOLDERS}


def published(folder: Path, models: dict[str, Any], dtype: torch.dtype = torch.float32) -> Path:
    """A folder as diffusers saves a pipeline, position numbers of old encoders and all."""
    for part, model in models.items():
        own = folder / karlo_weights.FOLDERS[part]
        own.mkdir(parents=True)
        state = {n: v.detach().to(dtype).contiguous() for n, v in model.state_dict().items()}
        if part == "text":
            state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        if part == "image":
            state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
        encoder = part in karlo_weights.ENCODERS
        name = "model" if encoder else "diffusion_pytorch_model"
        save_file(state, own / f"{name}.safetensors")
        said = model.config.to_dict() if encoder else dict(model.config)
        (own / "config.json").write_text(json.dumps(said, default=str))
    made = json.loads(clip_bpe.tokenizer_json([]))["model"]["vocab"]
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(made))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    return folder


def damage(folder: Path, change: str) -> None:
    """Drop a tensor of a checkpoint's file, add one, or give one another shape."""
    file = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    if change == "drop":
        del state["conv_in.weight"]
    elif change == "add":
        state["conv_in.more"] = torch.zeros(1)
    else:
        state["conv_in.weight"] = torch.zeros(3)
    save_file(state, file)


def reference(models: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Arguments that diffusers' two pipelines share."""
    from diffusers import UnCLIPScheduler

    return {
        "decoder": models["decoder"],
        "text_encoder": models["text"],
        "tokenizer": tokenizer,
        "text_proj": models["text_proj"],
        "super_res_first": models["super_first"],
        "super_res_last": models["super_last"],
        "decoder_scheduler": UnCLIPScheduler(variance_type="learned_range"),
        "super_res_scheduler": UnCLIPScheduler(),
    }
