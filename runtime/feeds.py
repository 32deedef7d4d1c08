"""Inputs to measure a part with where there are no real samples: seeded and cheap to describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import TextPreprocess

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from jetlift.runtime.manifest import Part, TensorSpec

    Feeds = dict[str, npt.NDArray[Any]]

_RANDOM_IDS = 1000  # below the vocabulary of every tokenizer in use


def random_feeds(
    part: Part, seed: int, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Feeds:
    """Seeded inputs of a part at its opt_shape, or at shapes that are given per input.

    Floats are standard normal, token ids 0..999, masks all ones, token types and positions all
    zeros, uint8 and int8 span their range.

    Raises:
        UsageError: A dynamic input has no opt_shape to measure at.
    """
    rng = np.random.default_rng(seed)
    given = {} if shapes is None else shapes
    return {
        spec.name: _random_array(spec, given.get(spec.name) or measured_shape(spec), part, rng)
        for spec in part.inputs
    }


def _random_array(
    spec: TensorSpec, shape: tuple[int, ...], part: Part, rng: np.random.Generator
) -> npt.NDArray[Any]:
    text = part.preprocess if isinstance(part.preprocess, TextPreprocess) else None
    is_mask = spec.name == text.mask if text else "mask" in spec.name
    is_type = spec.name == text.type_ids if text else "token_type" in spec.name
    if spec.dtype == "bool" or is_mask:
        return np.ones(shape, spec.dtype)
    if is_type or "position" in spec.name:  # any other position may lie beyond a model's last
        return np.zeros(shape, spec.dtype)
    if spec.dtype in ("int64", "int32"):
        return rng.integers(0, _RANDOM_IDS, shape, dtype=spec.dtype)
    if spec.dtype in ("uint8", "int8"):
        limits = np.iinfo(spec.dtype)
        return rng.integers(limits.min, limits.max, shape, dtype=spec.dtype, endpoint=True)
    return rng.standard_normal(shape, dtype=np.float32).astype(spec.dtype)


def measured_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape to measure an input at.

    Raises:
        UsageError: The input is dynamic and has no opt_shape.
    """
    if spec.opt_shape is not None:
        return spec.opt_shape
    fixed = tuple(axis for axis in spec.shape if isinstance(axis, int))
    if len(fixed) != len(spec.shape):
        raise UsageError(
            f"Input {spec.name} is {list(spec.shape)} and the bundle names no opt_shape for it",
            expected="A shape to measure at",
            do="Export again with a shape, or measure with real samples: --samples DIR",
        )
    return fixed
