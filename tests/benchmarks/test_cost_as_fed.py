"""What a run cost at the shapes that were fed to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.benchmarks.results import _cost_as_fed
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.record import InputShape

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_other_shapes_than_the_optimum_are_counted_anew(tmp_path: Path, variant: str) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    assert isinstance(bundle, Bundle)
    part = bundle.part("mlp")[1]
    (spec,) = part.inputs
    stored = bundle.variant("mlp", variant)
    assert spec.opt_shape is not None
    for factor in (1, 2, 4):
        shape = (spec.opt_shape[0] * factor, *spec.opt_shape[1:])
        fed = (InputShape(spec.name, spec.dtype, shape),)
        cost, known = _cost_as_fed(bundle, part, stored, fed)
        assert known
        assert (cost is stored.cost) is (factor == 1)
        assert cost.operations == factor * stored.cost.operations
        assert cost.weight_bytes == stored.cost.weight_bytes
