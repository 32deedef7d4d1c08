"""A bundle of tiny Stable Diffusion without an export, and sessions that answer with torch.

`diffusion_bundle(folder, size)` has real assets, parts and facts; its graphs are stand-ins that
nobody opens. `torch_sessions(size, seed)` answer as the exported graphs would.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx
import torch
from helpers import diffusers_pipes, tiny_bundle

from jetlift.engines import ops
from jetlift.export.recipes import clip_bpe
from jetlift.export.recipes import stable_diffusion as sd
from jetlift.export.recipes import stable_diffusion_modules as modules
from jetlift.export.recipes import stable_diffusion_weights as weights
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import MANIFEST_NAME, Bundle, list_files
from jetlift.runtime.manifest import SCHEMA_VERSION, Manifest, Part, TensorSpec, Variant, Weights
from jetlift.runtime.session.fake import FakeSession

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jetlift.export.recipes.stable_diffusion_sizes import Size


def diffusion_bundle(folder: Path, size: Size, defaults: sd.Defaults = sd.USUAL) -> Bundle:
    """Make the bundle described above in `folder` and open it."""
    (folder / "assets").mkdir(parents=True)
    (folder / sd.TOKENIZER).write_bytes(clip_bpe.tokenizer_json(clip_bpe.merges(size.merges)))
    made = sd.recipe("sd-tiny", size, sd.Origin("tiny", "nobody/none"), 0, defaults)
    parts = {}
    for name, recipe in made.parts.items():
        file = f"{name}.fp32.onnx"
        onnx.save(tiny_bundle.mlp(), folder / file)
        cost = ops.count(tiny_bundle.mlp(), {"x": (1, 16)}).cost
        parts[name] = Part(
            inputs=recipe.inputs,
            outputs=_outputs(name, recipe.output_names),
            parameters=1,
            preprocess=recipe.preprocess,
            variants={"fp32": Variant("fp32", "fp32", file, (), cost, (), None)},
            runs_per=recipe.runs_per,
        )
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        jetlift="0.1.0",
        model=made.name,
        tasks=made.tasks,
        weights=Weights("drawn", "Apache-2.0", None, "drawn for tests", random=False),
        parts=parts,
        calibration={},
        tools={"onnx": onnx.__version__},
        files=list_files(folder),
        diffusion=sd.facts(size, weights.Schedule(spacing=defaults.spacing), defaults),
    )
    (folder / MANIFEST_NAME).write_text(jsonform.dumps(manifest), encoding="utf-8")
    return Bundle.open(folder)


def torch_sessions(size: Size, seed: int) -> dict[str, FakeSession]:
    """Sessions by part that compute with the recipe's modules."""
    models = diffusers_pipes.drawn(size, seed)
    built: dict[str, torch.nn.Module] = {
        "text_encoder": modules.TextEncoder(models.text),
        "unet": modules.Unet(models.unet),
        "vae_decoder": modules.VaeDecoder(models.vae),
        "vae_encoder": modules.VaeEncoder(models.vae),
    }
    return {
        name: _session(name, recipe, built[name].eval()) for name, recipe in sd.parts(size).items()
    }


def _session(name: str, recipe: Any, module: torch.nn.Module) -> FakeSession:
    def compute(feeds: Mapping[str, Any]) -> dict[str, Any]:
        with torch.no_grad():
            answer = module(*(torch.from_numpy(feeds[spec.name]) for spec in recipe.inputs))
        answers = answer if isinstance(answer, tuple) else (answer,)
        return {key: item.numpy() for key, item in zip(recipe.output_names, answers, strict=True)}

    inputs = [replace(spec, min_shape=None, opt_shape=None, max_shape=None)
              for spec in recipe.inputs]  # fmt: skip
    return FakeSession(inputs, _outputs(name, recipe.output_names), compute)


def _outputs(part: str, names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    axes = 2 if part == "text_encoder" else 3
    shape = ("batch", *(f"axis_{place}" for place in range(axes)))
    return tuple(TensorSpec(name, "float32", shape) for name in names)
