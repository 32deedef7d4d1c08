"""Inputs that are made up where there are no samples."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import UsageError
from jetlift.runtime.feeds import random_feeds
from jetlift.runtime.manifest import Part, TensorSpec, TextPreprocess


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("feeds") / "tiny", precisions=["fp32"])


def test_random_inputs_are_seeded_and_of_the_measured_shape(bundle: Bundle) -> None:
    part = bundle.manifest.parts["image"]
    feeds, again = random_feeds(part, 0), random_feeds(part, 0)
    other = random_feeds(part, 1)
    assert feeds["pixel_values"].shape == (1, 3, 32, 32)
    assert feeds["pixel_values"].dtype == np.float32
    assert np.array_equal(feeds["pixel_values"], again["pixel_values"])
    assert not np.array_equal(feeds["pixel_values"], other["pixel_values"])


def _part(inputs: tuple[TensorSpec, ...], *, text: bool = False) -> Part:
    spec = TextPreprocess("text", "tokenizer.json", 128, "input_ids", "valid", "kinds")
    return Part(inputs, (), 0, spec if text else None, {})


def test_text_inputs_are_ids_of_the_vocabulary_masks_of_ones_types_of_zeros() -> None:
    names = ("input_ids", "valid", "kinds")
    specs = tuple(
        TensorSpec(name, "int64", ("batch", "sequence"), opt_shape=(2, 64)) for name in names
    )
    feeds = random_feeds(_part(specs, text=True), 0)
    assert feeds["input_ids"].dtype == np.int64
    assert 0 <= feeds["input_ids"].min() < feeds["input_ids"].max() < 1000
    assert (feeds["valid"] == 1).all()
    assert (feeds["kinds"] == 0).all()


def test_masks_of_ones_own_graph_are_known_by_their_name() -> None:
    specs = (TensorSpec("attention_mask", "int64", (1, 8)), TensorSpec("flag", "bool", (3,)))
    feeds = random_feeds(_part(specs), 0)
    assert (feeds["attention_mask"] == 1).all()
    assert feeds["flag"].all()


def test_positions_are_the_first_since_a_model_may_have_no_others() -> None:
    feeds = random_feeds(_part((TensorSpec("position", "int64", ("batch",), opt_shape=(2,)),)), 0)
    assert (feeds["position"] == 0).all()


@pytest.mark.parametrize("dtype", ["float16", "int32", "int8", "uint8"])
def test_every_type_is_fed_in_its_range(dtype: str) -> None:
    feeds = random_feeds(_part((TensorSpec("x", dtype, (64, 64)),)), 0)  # type: ignore[arg-type]
    assert feeds["x"].dtype == np.dtype(dtype)
    assert feeds["x"].std() > 0


def test_a_dynamic_input_without_a_shape_to_measure_at_is_refused() -> None:
    with pytest.raises(UsageError, match="names no opt_shape"):
        random_feeds(_part((TensorSpec("x", "float32", ("batch", 3)),)), 0)
