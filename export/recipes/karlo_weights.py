"""karlo's weights: one folder per model, as diffusers saves a pipeline, or random ones.

Rules:
    K1  A part is made when it is asked for and not kept: together they are 15 GB.
    K2  Every tensor of a file is used once and none is left over; sizes are held to config.json.
    K3  The checkpoint has no encoder of pictures. It is read from the folder where it is there, or
        from IMAGE_HUB_ID, whose other files are not fetched.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export import random_weights, weights
from jetlift.export.recipes import clip_bpe, karlo_models, published
from jetlift.runtime.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    import torch

    from jetlift.export.recipes.karlo_models import Size

    Array = npt.NDArray[Any]

# Main of this repository holds pickles alone; the change adds safetensors.
IMAGE_HUB_ID = "kakaobrain/karlo-v1-alpha-image-variations@refs/pr/2"
FOLDERS = {
    "text": "text_encoder",
    "image": "image_encoder",
    "prior": "prior",
    "text_proj": "text_proj",
    "decoder": "decoder",
    "super_first": "super_res_first",
    "super_last": "super_res_last",
}
ENCODERS = ("text", "image")
_STATS = ("clip_mean", "clip_std")
_SPREAD = 0.02


class Parts(Mapping[str, "torch.nn.Module"]):
    """Modules by part, each made anew whenever it is asked for (rule K1).

    Args:
        make: Makes one of them.
    """

    def __init__(self, make: Callable[[str], torch.nn.Module]) -> None:
        self._make = make

    def __getitem__(self, part: str) -> torch.nn.Module:
        """The part's module, in eval mode, float32."""
        if part not in FOLDERS:
            raise KeyError(part)
        return self._make(part)

    def __iter__(self) -> Iterator[str]:
        """Names of the parts."""
        return iter(FOLDERS)

    def __len__(self) -> int:
        """Number of parts."""
        return len(FOLDERS)


def random_model(part: str, size: Size, seed: int) -> Any:  # noqa: ANN401 - no types are shipped
    """One model with random weights, not those of the other parts."""
    own = (seed + list(FOLDERS).index(part)) % 2**32
    if part in ENCODERS:
        architecture = karlo_models.encoder_architecture(part)
        return random_weights.drawn(architecture, karlo_models.encoder_config(part, size), own)
    model = random_weights.initialised(lambda: karlo_models.make(part, size), own)
    if part == "prior":
        _set_stats(model, random_stats(size, seed))
    return model


def random_stats(size: Size, seed: int) -> Array:
    """Mean and standard deviation of embeddings, float32 [2, D], near 0 and 1."""
    rows = np.random.default_rng(seed).normal(0.0, _SPREAD, (2, size.width))
    return np.asarray(rows + np.array([[0.0], [1.0]]), np.float32)


def _set_stats(model: Any, stats: Array) -> None:  # noqa: ANN401 - as before
    import torch

    with torch.no_grad():
        for name, row in zip(_STATS, stats, strict=True):
            getattr(model, name).copy_(torch.from_numpy(row[None]))


def published_model(part: str, size: Size, folder: Path) -> Any:  # noqa: ANN401 - as before
    """One model of a checkpoint (rule K2).

    Args:
        part: Name of the part.
        size: Sizes that it must have.
        folder: The part's own folder.

    Raises:
        InputError: There is no such file, or it is of another size.
        ArtefactError: A tensor is missing, left over, or of another shape.
    """
    file = weights.weights_file(folder)
    published.check_config(folder, stated(part, size))
    if part in ENCODERS:
        config = karlo_models.encoder_config(part, size)
        architecture, state = (
            karlo_models.encoder_architecture(part),
            clip_bpe.without_positions(file),
        )
        return weights.pretrained(architecture, config, state, f"karlo's {FOLDERS[part]}")
    return _filled(karlo_models.make_empty(part, size), file)


def stated(part: str, size: Size) -> dict[str, Any]:
    """What a part's config.json has to say (rule K2)."""
    if part in ENCODERS:
        config = karlo_models.encoder_config(part, size)
        return {name: getattr(config, name) for name in _ENCODER_SIZES[part]}
    wanted = dict(karlo_models.configs(size)[part])
    if part == "super_last":
        del wanted["sample_size"]  # null in the published file, and nothing is computed of it
    return wanted


_ENCODER_SIZES = {
    "text": (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "vocab_size", "max_position_embeddings", "projection_dim", "hidden_act",
    ),
    "image": (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "image_size", "patch_size", "projection_dim", "hidden_act",
    ),
}  # fmt: skip


def _filled(model: Any, file: Path) -> Any:  # noqa: ANN401 - as before
    """A model with every weight from the file, float32 (rule K2)."""
    import torch

    state = weights.read_safetensors(file)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    got = {name: value.shape for name, value in state.items()}
    wrong = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
    if wrong:
        raise ArtefactError(
            f"{file} does not fit karlo: {', '.join(wrong[:3])}"
            + (f" and {len(wrong) - 3} more tensors" if len(wrong) > 3 else ""),
            expected="Every tensor of diffusers' model once, of its shape, and no other",
        )
    model.load_state_dict(
        {name: torch.from_numpy(value) for name, value in state.items()}, strict=True, assign=True
    )
    return model


def published_stats(size: Size, folder: Path) -> Array:
    """Mean and standard deviation of embeddings, from the prior's file: float32 [2, D].

    Raises:
        InputError: The file cannot be read.
        ArtefactError: They are missing or of another length.
    """
    from safetensors import SafetensorError, safe_open

    file = weights.weights_file(folder)
    try:
        with safe_open(file, framework="pt") as opened:
            rows = [opened.get_tensor(name).float().numpy() for name in _STATS]
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file} has no {' and '.join(_STATS)}: {error}", expected="karlo's prior"
        ) from error
    if any(row.shape != (1, size.width) for row in rows):
        raise ArtefactError(
            f"{file} has embeddings of {rows[0].shape[-1]} numbers", expected=f"{size.width}"
        )
    return np.concatenate(rows)


def tokenizer_json(size: Size, folder: Path) -> bytes:
    """The checkpoint's tokenizer in one file, made of its two.

    Args:
        size: Says how many merges there are.
        folder: The tokenizer's own folder.

    Raises:
        InputError: A file is missing, or the two are of another tokenizer than CLIP's.
    """
    import json

    if (folder / published.TOKENIZER).is_file():
        return (folder / published.TOKENIZER).read_bytes()
    vocabulary = published.read_json(folder / "vocab.json")
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{folder / 'merges.txt'} cannot be read: {error}",
            expected="A CLIP tokenizer's vocab.json and merges.txt",
        ) from error
    pairs = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    made = clip_bpe.tokenizer_json([(first, second) for first, second in pairs])
    if json.loads(made)["model"]["vocab"] != vocabulary or len(pairs) != size.clip.merges:
        raise InputError(
            f"{folder} has another vocabulary than CLIP's",
            expected="vocab.json whose ids follow from merges.txt as CLIP's do",
        )
    return made


def stats_file(stats: Array) -> bytes:
    """Mean and standard deviation as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, stats)
    return buffer.getvalue()
