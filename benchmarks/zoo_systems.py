"""Which system of the zoo goes through every step of the table at full size, and on what input.

Places in arguments: {bundle} the bundle, {out} a new folder, and what the user gives: {pictures} a
folder of pictures, {picture} its first one, {detection} a folder of street scenes and the like,
{speech} a folder of sound with words beside it, {sound} its first one, {sentences} a text file.
"""

from __future__ import annotations

from dataclasses import dataclass

RANDOM = "random:0"
PACKAGE = "package"


@dataclass(frozen=True)
class System:
    """One row of the table.

    Attributes:
        title: What people call it.
        model: Recipe that stands for it at full size.
        weights: `--weights` of the export.
        precisions: Variants to make.
        run: Arguments of the command that shows it at work.
        samples: Place of the samples that judge it; None where weights are random.
        prepare: Commands that the last one needs, each as its arguments.
        bundle_of: Another row whose bundle it uses; its own if empty.
        note: What a reader must know of the row.
    """

    title: str
    model: str
    weights: str
    precisions: tuple[str, ...]
    run: tuple[str, ...]
    samples: str | None = None
    prepare: tuple[tuple[str, ...], ...] = ()
    bundle_of: str = ""
    note: str = ""

    @property
    def key(self) -> str:
        """Name of its folder."""
        return self.title.lower().replace(" ", "-").replace("/", "-").replace("·", "-")


_ALL = ("fp32", "fp16", "int8")
_DECODER = ("fp32", "fp16", "int8w-fp16")


def _works(*arguments: str) -> tuple[str, ...]:
    return ("run", "{bundle}", *arguments, "-o", "{out}")


SYSTEMS: tuple[System, ...] = (
    System(
        "CLIP", "clip-vit-b32", RANDOM, _ALL,
        _works("{picture}", "--prompt", "a dog", "--prompt", "a cat"),
    ),
    System(
        "CLIP image search", "clip-vit-b32", RANDOM, (),
        ("search", "{out}.index", "{picture}", "-o", "{out}"),
        prepare=(("index", "{bundle}", "{few}", "-o", "{out}.index"),),
        bundle_of="CLIP", note="on real weights: docs/search.md",
    ),
    System("SigLIP", "siglip-base", RANDOM, _ALL, _works("{picture}", "--prompt", "a dog")),
    System(
        "DINOv2", "dinov2-small", PACKAGE, _ALL, _works("{picture}", "--task", "embed"),
        samples="{pictures}",
    ),
    System("ViT", "vit-b16", RANDOM, _ALL, _works("{picture}")),
    System("BERT", "bert-base", RANDOM, _ALL, _works("Paris is the [MASK] of France.")),
    System(
        "MiniLM", "minilm", PACKAGE, _ALL, _works("{sentences}", "--task", "embed"),
        samples="{sentences}",
    ),
    System(
        "GPT-2", "gpt2", RANDOM, _DECODER, _works("Once upon a time", "--max-tokens", "8"),
    ),
    System(
        "Qwen2.5", "qwen2.5-0.5b", RANDOM, ("fp32", "int8w-fp16"),
        _works("Once upon a time", "--max-tokens", "8"),
    ),
    System(
        "Whisper", "whisper-tiny-en", PACKAGE, _ALL, _works("{sound}"), samples="{speech}",
    ),
    System(
        "YOLOX", "yolox-nano", "{yolox}", _ALL, _works("{detection}"), samples="{detection}",
    ),
    System(
        "Detic", "detic-r50", RANDOM, ("fp32", "fp16"), _works("{picture}", "--prompt", "a dog"),
    ),
    System(
        "OWLv2", "owlv2-base", RANDOM, ("fp32", "fp16"), _works("{picture}", "--prompt", "a dog"),
    ),
    System(
        "Grounding DINO", "grounding-dino-tiny", RANDOM, ("fp32", "fp16"),
        _works("{picture}", "--prompt", "a dog"),
    ),
    System(
        "Stable Diffusion", "sd15", RANDOM, ("fp32", "fp16"),
        _works("a red tractor", "--steps", "1", "--seed", "0"),
    ),
    System(
        "SD-Turbo", "sd-turbo", RANDOM, ("fp32", "fp16"),
        _works("a red tractor", "--steps", "1", "--seed", "0"),
    ),
    System(
        "unCLIP", "karlo", RANDOM, ("fp32",),
        _works("a red tractor", "--steps", "2", "--seed", "0"),
    ),
    System(
        "PaDiM", "dinov2-small", PACKAGE, (),
        ("run", "{bundle}", "{picture}", "--task", "anomaly", "--fit", "{out}.fit", "-o", "{out}"),
        prepare=(("fit", "{bundle}", "{few}", "-o", "{out}.fit"),),
        bundle_of="DINOv2", note="how well it finds defects: docs/anomaly.md",
    ),
    System(
        "NeRF", "nerf", "{nerf}", _ALL, _works("orbit:4"), samples="{scene}",
        note="both parts hold the same network of 0.5 M",
    ),
)  # fmt: skip
