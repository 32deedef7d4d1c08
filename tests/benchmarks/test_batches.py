from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.benchmarks.batches import batch_of, largest_batch, shapes_at
from jetlift.runtime.errors import UsageError
from jetlift.runtime.feeds import random_feeds
from jetlift.runtime.manifest import Part, TensorSpec


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Part:
    folder: Path = tmp_path_factory.mktemp("bundles") / "tiny"
    return tiny_bundle(folder, precisions=("fp32",)).part("mlp")[1]


def test_a_batch_within_the_profile_has_its_shapes(part: Part) -> None:
    assert batch_of(part) == 1
    assert shapes_at(part, 4) == {"x": (4, 16)}
    assert random_feeds(part, 0, shapes_at(part, 3))["x"].shape == (3, 16)


def test_a_batch_beyond_the_profile_is_refused_with_what_it_takes(part: Part) -> None:
    with pytest.raises(UsageError, match="takes batches of 1 to 4, not 8"):
        shapes_at(part, 8)
    assert largest_batch(part, 8) == 4
    assert largest_batch(part, 3) == 3


def test_every_axis_of_the_batch_s_name_follows_it_and_others_stay(part: Part) -> None:
    text = replace(
        part,
        inputs=(
            TensorSpec("ids", "int64", ("batch", "n"), (1, 4), (1, 16), (8, 64)),
            TensorSpec("mask", "int64", ("batch", "n"), (1, 4), (1, 16), (8, 64)),
            TensorSpec("scale", "float32", (3,)),
        ),
    )
    assert shapes_at(text, 8) == {"ids": (8, 16), "mask": (8, 16), "scale": (3,)}


def test_a_graph_of_one_batch_takes_no_other(part: Part) -> None:
    fixed = replace(part, inputs=(TensorSpec("x", "float32", (2, 16)),))
    assert shapes_at(fixed, 2) == {"x": (2, 16)}
    assert largest_batch(fixed, 8) == 2
    with pytest.raises(UsageError, match="takes 2 at a time and no other number"):
        shapes_at(fixed, 1)
