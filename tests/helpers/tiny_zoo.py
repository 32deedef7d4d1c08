"""One model per task of the zoo at a size for tests, with random weights at fp32.

`tiny(task, folder)` exports the model of that task, and `ARGUMENTS[task]` says how `jetlift run`
uses it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.export.make import Request, export_recipe
from jetlift.export.radiance import FieldConfig
from jetlift.export.recipes import (
    bert,
    clip,
    dinov2,
    gpt2,
    karlo,
    nerf,
    owlv2,
    stable_diffusion,
    vit,
    whisper,
    whisper_sizes,
    yolox,
)
from jetlift.export.recipes import stable_diffusion_sizes as sd_sizes
from jetlift.export.recipes.karlo_models import TINY as KARLO_TINY

if TYPE_CHECKING:
    from jetlift.export.recipes.base import Loaded, Recipe
    from jetlift.runtime.bundle import Bundle

NOBODY = "nobody/none"


@dataclass(frozen=True)
class Use:
    """How a task is tried.

    Attributes:
        model: Which of MODELS.
        arguments: Inputs and options of `jetlift run`; {picture} and {sound} are files.
        before: A command that makes what the last needs; {made} is its file.
    """

    model: str
    arguments: tuple[str, ...]
    before: tuple[str, ...] = ()


USES: dict[str, Use] = {
    "embed": Use("dinov2", ("{picture}",)),
    "search": Use(
        "dinov2", ("{picture}", "--index", "{made}"),
        ("index", "{bundle}", "{pictures}", "-o", "{made}"),
    ),
    "anomaly": Use(
        "dinov2", ("{picture}", "--fit", "{made}"),
        ("fit", "{bundle}", "{pictures}", "-o", "{made}"),
    ),
    "classify": Use("clip", ("{picture}", "--prompt", "dog", "--prompt", "cat")),
    "detect": Use("owlv2", ("{picture}", "--prompt", "dog")),
    "fill-mask": Use("bert", ("a [MASK] b",)),
    "generate": Use("gpt2", ("once upon a time", "--max-tokens", "3")),
    "transcribe": Use("whisper", ("{sound}",)),
    "text-to-image": Use("sd", ("a red tractor", "--steps", "2", "--seed", "1")),
    "image-to-image": Use("sd", ("{picture}", "--prompt", "a tractor", "--steps", "2")),
    "inpaint": Use("sd", ("{picture}", "--prompt", "x", "--mask", "{picture}", "--steps", "2")),
    "variations": Use("karlo", ("{picture}", "--steps", "2")),
    "render": Use("nerf", ("orbit:2",)),
}  # fmt: skip


def models() -> dict[str, Recipe]:
    """The recipes, by the names that USES has for them."""
    return {
        "dinov2": dinov2.recipe("dinov2-tiny", dinov2.TINY, 0, ("embed", "search", "anomaly")),
        "clip": clip.recipe("clip-tiny", "CLIP, tiny", clip.TINY, NOBODY, 0),
        "vit": vit.recipe("vit-tiny", "ViT, tiny", vit.TINY, NOBODY, 0),
        "owlv2": owlv2.recipe("owlv2-tiny", "OWLv2, tiny", owlv2.TINY, NOBODY, 0),
        "yolox": yolox.recipe("yolox-tiny-test", "YOLOX, tiny", yolox.TINY, "none", 0),
        "bert": bert.recipe("bert-tiny", "BERT, tiny", bert.TINY, NOBODY, 0),
        "gpt2": gpt2.recipe("gpt2-tiny", "GPT-2, tiny", gpt2.TINY, NOBODY, 0),
        "whisper": whisper.recipe(whisper_sizes.TINY),
        "sd": stable_diffusion.recipe(
            "sd-tiny", sd_sizes.TINY, stable_diffusion.Origin("SD, tiny", NOBODY), 0
        ),
        "karlo": karlo.recipe("karlo-tiny", "karlo, tiny", KARLO_TINY, NOBODY, 0),
        "nerf": replace(nerf.RECIPE, load=_tiny_field),
    }


def _tiny_field(source: str | None) -> Loaded:
    config = FieldConfig(resolutions=(8, 16), channels=4, hidden=16, geometry=7)
    scene = replace(nerf.RANDOM_SCENE, samples=12, size_wh=(20, 12), focal_px=20.0)
    return nerf.random_field(int(str(source).partition(":")[2]), config, scene)


def tiny(model: str, folder: Path) -> Bundle:
    """Export one of them."""
    return export_recipe(models()[model], "random:3", Request(folder, ("fp32",)))
