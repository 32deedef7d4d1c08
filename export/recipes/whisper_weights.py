"""Whisper's weights under the names that transformers gives them, from whichever kind of file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from jetlift.export import ctranslate2, weights
from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

State: TypeAlias = dict[str, npt.NDArray[np.float32]]
INDEX = "model.safetensors.index.json"
_WEIGHT_AND_BIAS, _NORM = ("weight", "bias"), ("gamma", "beta")


def read_folder(path: Path) -> tuple[Path, Path, State]:
    """Read weights as the hub has them: in one file, or in several with an index.

    The hub's larger models are in float16; each number is the same in float32, which they become.

    Args:
        path: A folder, or a safetensors file in one.

    Returns:
        The folder, the file that stands for the weights (the index where there are several), and
        the weights.

    Raises:
        InputError: A file is missing, damaged, or not of safetensors.
    """
    index = path / INDEX
    if path.is_dir() and index.is_file() and not (path / "model.safetensors").is_file():
        return path, index, _read_shards(index)
    file = weights.weights_file(path)
    return file.parent, file, weights.read_safetensors(file)


def _read_shards(index: Path) -> State:
    try:
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        places = {str(name): str(file) for name, file in named.items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"{index} cannot be read: {error}", expected="An index with a weight_map"
        ) from error
    state: State = {}
    for file in sorted(set(places.values())):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise InputError(
                f"{index} names the file {file!r}", expected="Safetensors files beside it"
            )
        state |= weights.read_safetensors(index.parent / file)
    wrong = sorted(state.keys() ^ places.keys())
    if wrong:
        raise InputError(
            f"{index} and its files do not name the same weights: {', '.join(wrong[:3])}",
            expected="Every weight in one of the files",
        )
    return state


def state_of_ctranslate2(path: Path, layers: int) -> State:
    """Read weights as CTranslate2 has them.

    Args:
        path: The model.bin.
        layers: Number of layers of the encoder, and of the decoder.

    Raises:
        InputError: The file is damaged or holds no Whisper of this size.
    """
    file = ctranslate2.read(path)
    try:
        return _Renaming(file.variables).all(layers)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} ({file.specification}, revision {file.revision}) is no Whisper of {layers} "
            f"layers: {error} is missing or of another form",
            expected="WhisperSpec of that size",
        ) from error


class _Renaming:
    """From CTranslate2's variables to transformers' parameters.

    CTranslate2 keeps the query, key and value of self-attention in one matrix, and the key and
    value of cross-attention. Its biases have zeros for the key, which in Whisper has none.
    """

    def __init__(self, found: Mapping[str, npt.NDArray[Any]]) -> None:
        self._found = found
        self._state: State = {}

    def all(self, layers: int) -> State:
        for side in ("encoder", "decoder"):
            name = f"model.{side}"
            positions = self._array(f"{side}/position_encodings/encodings")
            self._state[f"{name}.embed_positions.weight"] = positions
            self._take(f"{name}.layer_norm", f"{side}/layer_norm", _NORM)
            for index in range(layers):
                self._layer(f"{name}.layers.{index}", f"{side}/layer_{index}")
        for index in range(layers):
            self._cross(f"model.decoder.layers.{index}", f"decoder/layer_{index}/attention")
        for convolution in ("conv1", "conv2"):
            self._take(f"model.encoder.{convolution}", f"encoder/{convolution}")
        embeddings = self._array("decoder/embeddings/weight")
        self._state["model.decoder.embed_tokens.weight"] = embeddings
        return self._state

    def _layer(self, name: str, origin: str) -> None:
        own, inner = f"{origin}/self_attention", f"{origin}/ffn"
        self._split(f"{name}.self_attn", f"{own}/linear_0", ("q_proj", "k_proj", "v_proj"))
        self._take(f"{name}.self_attn.out_proj", f"{own}/linear_1")
        self._take(f"{name}.self_attn_layer_norm", f"{own}/layer_norm", _NORM)
        self._take(f"{name}.final_layer_norm", f"{inner}/layer_norm", _NORM)
        self._take(f"{name}.fc1", f"{inner}/linear_0")
        self._take(f"{name}.fc2", f"{inner}/linear_1")

    def _cross(self, name: str, origin: str) -> None:
        self._take(f"{name}.encoder_attn.q_proj", f"{origin}/linear_0")
        self._split(f"{name}.encoder_attn", f"{origin}/linear_1", ("k_proj", "v_proj"))
        self._take(f"{name}.encoder_attn.out_proj", f"{origin}/linear_2")
        self._take(f"{name}.encoder_attn_layer_norm", f"{origin}/layer_norm", _NORM)

    def _take(self, name: str, origin: str, kinds: tuple[str, str] = _WEIGHT_AND_BIAS) -> None:
        for ours, theirs in zip(_WEIGHT_AND_BIAS, kinds, strict=True):
            self._state[f"{name}.{ours}"] = self._array(f"{origin}/{theirs}")

    def _split(self, name: str, origin: str, projections: Sequence[str]) -> None:
        for kind in _WEIGHT_AND_BIAS:
            pieces = np.split(self._array(f"{origin}/{kind}"), len(projections))
            for projection, piece in zip(projections, pieces, strict=True):
                if (projection, kind) != ("k_proj", "bias"):
                    self._state[f"{name}.{projection}.{kind}"] = piece
                elif piece.any():
                    raise ValueError(f"a key without bias in {origin}")

    def _array(self, name: str) -> npt.NDArray[np.float32]:
        return self._found[name].astype(np.float32)
