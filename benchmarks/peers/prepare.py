"""Inputs and weights for the contenders, made once, in a process that may import torch.

    python -m jetlift.benchmarks.peers.prepare CASE BUNDLE SAMPLES FOLDER [SOUND]

FOLDER must not exist; it appears whole. Inputs come from the part of the samples that no INT8 was
calibrated or searched on; `calibration.npz` has what jetlift's own INT8 was calibrated on.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime import atomic
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from jetlift.export.samples import Samples

    Arrays = Mapping[str, npt.NDArray[Any]]

INPUTS, BATCH = 8, 16
_SPOKEN = 3
_FEATURES = (200, 256, 100)  # good pictures, patches, dimensions of PaDiM's resnet18
_SEED = 0


def dinov2(bundle: Bundle, samples: Path, folder: Path, _sound: Path | None) -> None:
    """Pictures, and transformers' folder of the weights, with the fp32 graph for optimum."""
    _feeds(bundle, samples, folder)
    model: Any = _loaded(bundle).modules["image"].model
    model.save_pretrained(folder / "hf")
    graph = bundle.path(bundle.variant("image", "fp32").file)
    shutil.copyfile(graph, folder / "hf" / "model.onnx")


def minilm(bundle: Bundle, samples: Path, folder: Path, _sound: Path | None) -> None:
    """Sentences one by one and as a batch, and the folder that sentence-transformers reads."""
    from jetlift.export.recipes import minilm as recipe

    _loaded(bundle)
    lines = [line for line in samples.read_text(encoding="utf-8").splitlines() if line.strip()]
    texts = np.array(lines[-BATCH:])  # the last ones are the report set's
    _save(folder / "inputs.npz", [{"texts": texts[index : index + 1]} for index in range(INPUTS)])
    _save(folder / "batch.npz", [{"texts": texts}])
    shutil.copytree(recipe.PACKAGED.locate().parent, folder / "hf")


def whisper(bundle: Bundle, samples: Path, folder: Path, sound: Path | None) -> None:
    """Sounds at 16 kHz, and the weights as transformers and openai-whisper read them."""
    import torch
    from transformers import WhisperForConditionalGeneration

    from jetlift.export import weights
    from jetlift.export.recipes import whisper as recipe
    from jetlift.export.recipes.whisper_sizes import SIZES
    from jetlift.export.recipes.whisper_weights import state_of_ctranslate2

    if sound is not None:
        _save(folder / "inputs.npz", [_sounds([sound])])
    spoken = sorted(samples.glob("*.wav"))[-_SPOKEN:]  # the last ones are the report set's
    if not spoken:
        raise InputError(f"{samples} has no .wav files", expected="Speech with words beside it")
    _save(folder / "spoken.npz", [_sounds(spoken)])
    said = [path.with_suffix(".txt").read_text(encoding="utf-8").strip() for path in spoken]
    (folder / "spoken.txt").write_text("\n".join(said), encoding="utf-8")
    _loaded(bundle)
    size = next(item for item in SIZES if item.name == bundle.manifest.model)
    state = state_of_ctranslate2(recipe.PACKAGED.locate(), size.decoder_layers)
    model: Any = weights.pretrained(
        WhisperForConditionalGeneration, recipe.config_of(size), state, size.title
    )
    model.save_pretrained(folder / "hf")
    shutil.copyfile(bundle.path("assets/tokenizer.json"), folder / "hf" / "tokenizer.json")
    checkpoint = {"dims": _dimensions(size), "model_state_dict": _as_openai(model.state_dict())}
    torch.save(checkpoint, folder / "openai.pt")


def yolox(bundle: Bundle, samples: Path, folder: Path, _sound: Path | None) -> None:
    """Pictures as the graph takes them, and as they are."""
    from jetlift.runtime.pictures import SUFFIXES, read_picture

    _feeds(bundle, samples, folder)
    pictures = sorted(path for path in samples.iterdir() if path.suffix.lower() in SUFFIXES)
    _save(
        folder / "pictures.npz", [{"image_bgr": read_picture(path)} for path in pictures[-INPUTS:]]
    )


def clip(bundle: Bundle, _samples: Path, folder: Path, _sound: Path | None) -> None:
    """Random pixels: the weights are random too."""
    from jetlift.runtime.feeds import random_feeds

    part = bundle.part("image")[1]
    _save(folder / "inputs.npz", [random_feeds(part, seed) for seed in range(INPUTS)])


def padim(_bundle: Bundle | None, _samples: Path, folder: Path, _sound: Path | None) -> None:
    """Features drawn at random, correlated as a backbone's are: the method alone is timed."""
    random = np.random.default_rng(_SEED)
    count, patches, dims = _FEATURES
    mixing = random.standard_normal((dims, dims)) / np.sqrt(dims)
    features = (random.standard_normal((count + INPUTS, patches, dims)) @ mixing).astype(np.float32)
    # Some patches are stranger than others, as they are in pictures.
    features[count:] *= np.exp(random.standard_normal((INPUTS, patches, 1)) / 2).astype(np.float32)
    side = round(np.sqrt(patches))
    grid = np.array([side, side])
    inputs: list[Arrays] = [{"tokens": item, "grid_hw": grid} for item in features[count:]]
    _save(folder / "inputs.npz", [{"features": features[:count], **inputs[0]}, *inputs[1:]])


def _feeds(bundle: Bundle, samples: Path, folder: Path) -> None:
    from jetlift.export.recipes import samples_for

    part = bundle.part(None)[0]
    split = samples_for(bundle, part, samples)
    had = bundle.manifest.calibration.get(part)
    if had is None or had.sha256 != split.calibration.described.sha256:
        raise InputError(
            "These are not the samples that the bundle was exported with",
            do="Name the --samples of its export",
        )
    _save(folder / "inputs.npz", _some(split.report))
    _save(folder / "calibration.npz", list(split.calibration.feeds))


def _some(samples: Samples) -> list[Arrays]:
    return [samples.feeds[index] for index in range(min(INPUTS, len(samples.feeds)))]


def _loaded(bundle: Bundle) -> Any:  # noqa: ANN401 - modules of several recipes
    """The recipe's own weights, which have to be the bundle's."""
    from jetlift.export.recipes import recipe

    loaded = recipe(bundle.manifest.model).load("package")
    if loaded.weights.sha256 != bundle.manifest.weights.sha256:
        raise UsageError(
            f"The bundle's weights are {bundle.manifest.weights.source}",
            expected=f"Those of the package, {loaded.weights.source}",
            do="Export it with --weights package",
        )
    return loaded


def _sounds(paths: Sequence[Path]) -> Arrays:
    from jetlift.runtime.audio import read_sound, resample

    sounds = [read_sound(path) for path in paths]
    return {
        f"samples_{index}": resample(sound.samples, sound.sample_rate_hz, 16_000)
        for index, sound in enumerate(sounds)
    }


def _save(path: Path, inputs: Sequence[Arrays]) -> None:
    arrays = {
        f"{index}/{name}": array
        for index, given in enumerate(inputs)
        for name, array in given.items()
    }
    with path.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type] # numpy's stub takes the names for its own


def _dimensions(size: Any) -> dict[str, int]:  # noqa: ANN401 - whisper_sizes' Size
    return {
        "n_mels": size.mel_bins, "n_audio_ctx": size.times, "n_audio_state": size.width,
        "n_audio_head": size.heads, "n_audio_layer": size.encoder_layers,
        "n_vocab": size.vocabulary, "n_text_ctx": size.positions, "n_text_state": size.width,
        "n_text_head": size.heads, "n_text_layer": size.decoder_layers,
    }  # fmt: skip


# transformers' names in openai/whisper's words (whisper/model.py), in the order of replacement.
_NAMES = (
    (r"^model\.", ""), (r"layers\.", "blocks."), (r"self_attn_layer_norm", "attn_ln"),
    (r"encoder_attn_layer_norm", "cross_attn_ln"), (r"self_attn", "attn"),
    (r"encoder_attn", "cross_attn"), (r"q_proj", "query"), (r"k_proj", "key"), (r"v_proj", "value"),
    (r"out_proj", "out"), (r"fc1", "mlp.0"), (r"fc2", "mlp.2"), (r"final_layer_norm", "mlp_ln"),
    (r"^encoder\.layer_norm", "encoder.ln_post"), (r"^decoder\.layer_norm", "decoder.ln"),
    (r"embed_positions\.weight", "positional_embedding"), (r"embed_tokens", "token_embedding"),
)  # fmt: skip


def _as_openai(state: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("proj_out"):  # the same as the embedding
            continue
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901 - the name on its way
        renamed[name] = tensor
    return renamed


PREPARED: dict[str, Callable[[Any, Path, Path, Path | None], None]] = {
    "dinov2": dinov2, "minilm": minilm, "whisper": whisper, "yolox": yolox, "clip": clip,
    "padim": padim,
}  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks for."""
    case, bundle, samples, folder = arguments[:4]
    sound = Path(arguments[4]) if len(arguments) > 4 else None
    opened = Bundle.open(Path(bundle)) if bundle else None
    with atomic.folder_aside(Path(folder)) as made:
        PREPARED[case](opened, Path(samples), made, sound)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
