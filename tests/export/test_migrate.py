from __future__ import annotations

import numpy as np
import onnx_ir as ir
from helpers import graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper

from jetlift.export.precision.int8 import observe_sites
from jetlift.export.precision.migrate import affine_of, migrate, migration_factors
from jetlift.export.precision.sites import by_activation, find_sites
from jetlift.export.precision.treat import Treatment, prepare

RANDOM = np.random.default_rng(5)
SAMPLES = [{"x": RANDOM.standard_normal((1, 16)).astype(np.float32)} for _ in range(8)]

magnitudes = hnp.arrays(np.float32, 6, elements=st.floats(0, 2**20, width=32))


def migrated(
    source: ir.Model, samples=SAMPLES, alpha: float = 0.5, *, shift: bool = False
) -> ir.Model:
    copy = source.clone()
    sites = find_sites(copy.graph)[0]
    groups = by_activation(sites)
    seen = observe_sites(copy, sites, samples)
    affines = {
        name: affine_of(group, seen[name], alpha=alpha, shift=shift)
        for name, group in groups.items()
    }
    migrate(copy.graph, groups, affines)
    return copy


def assert_same_answer(source: ir.Model, changed: ir.Model, samples=SAMPLES) -> None:
    for sample in samples:
        for a, b in zip(graphs.run(source, sample), graphs.run(changed, sample), strict=True):
            np.testing.assert_allclose(b, a, atol=1e-5 * max(1, np.abs(a).max()))


@given(magnitudes, magnitudes, st.floats(0, 1))
def test_factors_are_positive_bounded_and_one_where_nothing_lives(active, used, alpha):
    factors = migration_factors(active, used, alpha)
    assert (factors >= 1e-4).all()
    assert (factors <= 1e4).all()
    dead = (active <= 1e-6) | (used <= 1e-6)
    assert (factors[dead] == 1).all()


@given(st.integers(0, 2**31), st.floats(0, 1), st.booleans())
@settings(max_examples=15, deadline=None)
def test_the_float_answer_stays(seed, alpha, shift):
    source = graphs.mlp(seed=seed)
    assert_same_answer(source, migrated(source, alpha=alpha, shift=shift))


PICTURES = [{"x": RANDOM.standard_normal((1, 3, 16, 16)).astype(np.float32)} for _ in range(4)]


@given(st.integers(0, 2**31), st.floats(0, 1), st.booleans())
@settings(max_examples=15, deadline=None)
def test_the_float_answer_of_convolutions_stays(seed, alpha, shift):
    for source in (graphs.conv_net(seed), graphs.silu_net(seed)):
        assert_same_answer(source, migrated(source, PICTURES, alpha, shift=shift), PICTURES)


def test_equalisation_between_convolutions_costs_no_node():
    source = graphs.conv_net()
    changed = migrated(source, PICTURES)
    assert [node.op_type for node in changed.graph] == [node.op_type for node in source.graph]
    before, after = (m.graph[2].inputs[1].const_value.numpy() for m in (source, changed))
    assert not np.array_equal(before, after)


def test_only_the_sites_read_the_affine_of_a_shared_tensor():
    source = graphs.silu_net()
    changed = migrated(source, PICTURES, shift=True)
    readers = {node.name: node.inputs[0].name for node in changed.graph}
    assert readers["pointwise"] != readers["other"] == "s"


def test_padded_convolution_is_not_shifted():
    source = graphs.conv_net()
    sites = find_sites(source.graph)[0]
    seen = observe_sites(source, sites, PICTURES)
    affine = affine_of(sites, seen["r"], alpha=0.5, shift=True)
    assert not affine.shift.any()


def test_layer_normalization_absorbs_and_the_rest_gets_one_mul():
    source = graphs.mlp()
    kinds = [node.op_type for node in migrated(source).graph]
    # fc1 reads the normalisation; fc2 reads a Relu, which absorbs nothing.
    assert kinds.count("Mul") == 1
    assert kinds.count("LayerNormalization") == 1


def outlier_net(*, shared: bool) -> ir.Model:
    """x -> GELU as torch writes it (x * 0.5 * (1 + erf)) -> MatMul -> y."""
    weights = {
        "half": np.float32(0.5),
        "root": np.float32(2**-0.5),
        "one": np.float32(1),
        "w": RANDOM.standard_normal((16, 4)),
    }
    nodes = [
        helper.make_node("Mul", ["x", "root"], ["scaled"], name="scaled"),
        helper.make_node("Erf", ["scaled"], ["erf"], name="erf"),
        helper.make_node("Add", ["erf", "one"], ["gate"], name="gate"),
        helper.make_node("Mul", ["x", "half"], ["halved"], name="halved"),
        helper.make_node("Mul", ["halved", "gate"], ["gelu"], name="gelu"),
        helper.make_node("MatMul", ["gelu", "w"], ["y"], name="fc"),
    ]
    outputs: dict[str, list[int | str]] = {"y": ["batch", 4]}
    if shared:
        nodes.append(helper.make_node("Neg", ["gelu"], ["z"], name="other_reader"))
        outputs["z"] = ["batch", 16]
    return graphs.model(nodes, weights, inputs={"x": ["batch", 16]}, outputs=outputs)


def test_gelu_absorbs_into_its_constant_factor():
    source = outlier_net(shared=False)
    changed = migrated(source)
    assert len(changed.graph) == len(source.graph)
    assert_same_answer(source, changed)
    by_name = {node.name: node for node in changed.graph}
    assert by_name["halved"].inputs[1].const_value.numpy().shape == (16,)


def test_tensor_that_somebody_else_reads_stays_for_them():
    source = outlier_net(shared=True)
    changed = migrated(source)
    assert_same_answer(source, changed)
    assert [node.op_type for node in changed.graph].count("Mul") == 4  # one more, before fc


def test_an_outlier_channel_no_longer_costs_the_others_their_precision():
    random = np.random.default_rng(1)
    spread = np.ones(16, np.float32)
    spread[3] = 200.0
    weights = {"spread": spread, "w": random.standard_normal((16, 8)) / 4}
    weights["w"][3] /= 200
    nodes = [
        helper.make_node("Mul", ["x", "spread"], ["wide"], name="wide"),
        helper.make_node("MatMul", ["wide", "w"], ["y"], name="fc"),
    ]
    source = graphs.model(nodes, weights, inputs={"x": ["batch", 16]}, outputs={"y": ["batch", 8]})
    seen = observe_sites(source, find_sites(source.graph)[0], SAMPLES)
    quantised = prepare(source, seen, {"wide": Treatment(0.5, correct=False)}).typed()
    # One scale for the tensor as it was: every other channel has 200 times fewer steps.
    wide = np.concatenate([sample["x"] * spread for sample in SAMPLES])
    step = np.abs(wide).max() / 127
    plain = np.rint(wide / step) * step @ weights["w"].astype(np.float32)
    wanted = np.concatenate([graphs.run(source, sample)[0] for sample in SAMPLES])
    got = np.concatenate([graphs.run(quantised, sample)[0] for sample in SAMPLES])
    assert np.abs(got - wanted).max() < 0.1 * np.abs(plain - wanted).max()
