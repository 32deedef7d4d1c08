"""Profiles of a part's shapes, the linter's warnings, and buckets without gap or overlap."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.engines.trt.profiles import WIDE, Range, lint, profile_of, profiles_of
from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import TensorSpec

X = TensorSpec("x", "float32", ("batch", 16), (1, 16), (1, 16), (4, 16))


def batched(low: int, best: int, high: int, name: str = "x") -> TensorSpec:
    return TensorSpec(name, "float32", ("batch", 16), (low, 16), (best, 16), (high, 16))


def test_a_profile_is_the_parts_shapes() -> None:
    assert profile_of(X) == Range((1, 16), (1, 16), (4, 16))
    fixed = profile_of(TensorSpec("x", "float32", (1, 16)))
    assert fixed == Range((1, 16), (1, 16), (1, 16))


def test_a_dynamic_input_needs_shapes_to_build_for() -> None:
    with pytest.raises(UsageError, match="dynamic axes and no min_shape"):
        profile_of(TensorSpec("x", "float32", ("batch", 16)))


def test_shapes_out_of_order_are_refused() -> None:
    with pytest.raises(UsageError, match="in that order"):
        profile_of(batched(1, 8, 4))


def test_a_narrow_profile_is_not_told() -> None:
    assert lint([X]) == ()
    assert lint([batched(1, 1, int(WIDE))]) == ()
    assert lint([TensorSpec("x", "float32", (1, 16))]) == ()


@pytest.mark.parametrize(
    ("best", "words"),
    [
        (1, ["wide", "timed at the lightest"]),
        (8, ["wide"]),
        (64, ["wide", "timed at the heaviest"]),
    ],
)
def test_a_wide_profile_is_told_with_its_opt(best: int, words: list[str]) -> None:
    told = lint([batched(1, best, 64)])
    assert len(told) == len(words)
    assert all(word in sentence for word, sentence in zip(words, told, strict=True))
    assert "batch 1 to 64, 64 times the elements of the input" in told[0]
    assert "--profile-buckets 2" in told[0]


def test_operations_weigh_where_they_are_known() -> None:
    """Attention grows with the square of a sequence: 4 times the tokens are 16 times the work."""
    tokens = TensorSpec("ids", "int64", (1, "sequence"), (1, 64), (1, 128), (1, 256))
    assert lint([tokens]) == ()
    told = lint([tokens], lambda shapes: float(shapes["ids"][1] ** 2))
    assert "sequence 64 to 256, 16 times the operations" in told[0]


def test_buckets_offered_are_narrow_ones() -> None:
    (told, *_) = lint([batched(1, 1, 1024)])
    assert "--profile-buckets 4" in told
    for own in profiles_of([batched(1, 1, 1024)], 4):
        assert own["x"].max[0] / own["x"].min[0] <= WIDE


def test_one_bucket_is_the_whole_and_what_is_fixed_is_not_split() -> None:
    assert profiles_of([X]) == ({"x": profile_of(X)},)
    fixed = TensorSpec("x", "float32", (1, 16))
    assert profiles_of([fixed], 4) == ({"x": profile_of(fixed)},)


def test_inputs_of_one_axis_are_split_together() -> None:
    mask = TensorSpec("mask", "int64", ("batch", "tokens"), (1, 8), (2, 16), (64, 32))
    first, second = profiles_of([batched(1, 2, 64), mask], 2)
    assert first["x"] == Range((1, 16), (2, 16), (8, 16))
    assert first["mask"] == Range((1, 8), (2, 16), (8, 32))  # tokens vary less and stay whole
    assert second["x"] == Range((9, 16), (64, 16), (64, 16))
    assert second["mask"] == Range((9, 8), (64, 16), (64, 32))


def test_the_bucket_with_the_parts_own_opt_comes_first() -> None:
    profiles = profiles_of([batched(1, 32, 64)], 3)
    assert profiles[0]["x"] == Range((17, 16), (32, 16), (64, 16))


@settings(deadline=None)
@given(st.data(), st.integers(1, 400), st.integers(1, 8))
def test_buckets_cover_every_size_once(data: st.DataObject, high: int, count: int) -> None:
    low = data.draw(st.integers(1, high))
    best = data.draw(st.integers(low, high))
    found = [own["x"] for own in profiles_of([batched(low, best, high)], count)]
    assert len(found) <= count
    sizes = sorted(size for own in found for size in range(own.min[0], own.max[0] + 1))
    assert sizes == list(range(low, high + 1))
    assert all(own.min[0] <= own.opt[0] <= own.max[0] for own in found)
    assert found[0].min[0] <= best == found[0].opt[0] <= found[0].max[0]
