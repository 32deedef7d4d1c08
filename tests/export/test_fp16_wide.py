from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest
from helpers import graphs, hard_graphs, qdq_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from jetlift.export.precision import wide_trials
from jetlift.export.precision.calibrate import reference_session
from jetlift.export.precision.emulate import emulate_half
from jetlift.export.precision.fp16 import to_half
from jetlift.export.precision.fp16_wide import TOLERANCE, find_wide
from jetlift.export.precision.half import FP16, half_of
from jetlift.export.precision.switched import Switched
from jetlift.export.precision.wide_trials import Trials, relative_error
from jetlift.export.precision.wide_units import units_of
from jetlift.runtime.errors import InputError, UsageError

RANDOM = np.random.default_rng(5)


def outputs(model, feeds):
    session = reference_session(model)
    names = [value.name for value in model.graph.outputs]
    results = [session.run(names, dict(item)) for item in feeds]
    return {name: [result[i] for result in results] for i, name in enumerate(names)}


def loss_of(model, feeds, wide=(), kind="fp16"):
    """The loss of the typed graph itself, emulated."""
    emulated = emulate_half(to_half(model, kind, wide=wide).model)
    got = outputs(emulated, feeds)
    finite = all(np.isfinite(array).all() for arrays in got.values() for array in arrays)
    return relative_error(outputs(model, feeds), got) if finite else math.inf


# Per graph: what FP16 does to it at least, and which nodes must stay wide.
HARD = {
    "layer_norm_in_steps": (
        hard_graphs.layer_norm_in_steps(), 0.9, {"square", "variance", "epsilon", "root"},
    ),
    "attention_times_1000": (hard_graphs.attention(1000.0), math.inf, {"logits", "scale"}),
    "residual_of_1e5": (
        hard_graphs.residual(), math.inf,
        {"outlier", "add0", "norm0", "add1", "norm1", "add2", "last"},
    ),
    "rms_norm_of_1e-4": (hard_graphs.rms_norm(), 0.3, {"square", "mean", "epsilon", "root"}),
    "l2_norm_of_300": (hard_graphs.l2_norm(), 0.9, {"length"}),
}  # fmt: skip


@pytest.mark.parametrize("case", HARD)
def test_what_breaks_in_fp16_is_found_and_mended_by_few_nodes(case):
    (model, feeds), broken, wanted = HARD[case]
    assert loss_of(model, feeds) >= broken
    found = find_wide(model, feeds)
    assert found.narrow_loss >= broken
    assert found.met
    assert found.overflows == ()
    assert set(found.wide) == wanted
    assert found.loss <= TOLERANCE
    # The typed graph is what counts, and on samples that the search has not seen.
    fresh = [{"x": np.flip(item["x"], axis=1).copy()} for item in feeds]
    assert loss_of(model, fresh, wide=found.wide) <= 2 * TOLERANCE


@pytest.mark.parametrize("case", HARD)
def test_every_node_that_is_kept_is_needed(case):
    (model, feeds), _, wanted = HARD[case]
    for name in wanted:
        rest = wanted - {name}
        trial = Trials(model, FP16, feeds, relative_error).trial(rest, everything=True)
        assert trial.overflows or trial.loss > TOLERANCE, name


SOUND = {
    "mlp": (graphs.mlp(), [{"x": RANDOM.standard_normal((2, 16)).astype(np.float32)}]),
    "attention": hard_graphs.attention(1.0),
    "attention_with_a_mask_of_-1e38": hard_graphs.attention(1.0, mask=True),
    "rms_norm_of_large_values": (
        hard_graphs.rms_norm()[0],
        [{"x": item["x"] * 1e4} for item in hard_graphs.rms_norm()[1]],
    ),
}


@pytest.mark.parametrize("case", SOUND)
def test_what_is_fine_stays_narrow(case):
    model, feeds = SOUND[case]
    found = find_wide(model, feeds)
    assert (found.wide, found.overflows, found.met) == ({}, (), True)
    assert found.loss == found.narrow_loss < TOLERANCE


def test_reasons_say_what_happens_and_how_much():
    (model, feeds), _, _ = HARD["layer_norm_in_steps"]
    found = find_wide(model, feeds)
    assert set(found.narrow_overflows) >= {"squares", "variance"}
    assert found.wide["square"].startswith("squares reaches 1.14e+06, beyond FP16's 65504")
    kept = to_half(model, "fp16", wide=found.wide).kept_wide
    assert kept[0] == f"square: {found.wide['square']}"
    (model, feeds), _, _ = HARD["rms_norm_of_1e-4"]
    told = find_wide(model, feeds).wide["square"]
    assert told.startswith("rounding squares alone moves the outputs by ")
    assert 10 < float(told.rpartition("by ")[2].removesuffix("%")) < 100


def test_bf16_needs_none_of_it_for_range():
    for (model, feeds), _, _ in HARD.values():
        found = find_wide(model, feeds, kind="bf16", tolerance=0.05)
        assert (found.wide, found.overflows, found.met) == ({}, (), True)


def test_a_zero_row_under_a_lost_epsilon_is_traced_to_what_was_lost():
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squares"], name="square"),
        helper.make_node("Mul", ["squares", "tenth"], ["part"], name="part"),
        helper.make_node("Sqrt", ["part"], ["root"], name="root"),
        helper.make_node("Div", ["x", "root"], ["y"], name="divide"),
    ]
    weights = {"tenth": np.float32(0.1)}
    axes = {"x": ["n"]}
    model = graphs.model(nodes, weights, inputs=axes, outputs={"y": ["n"]})
    feeds = [{"x": np.float32([1e-4, -2e-4, 1.0])}]  # squares are lost, and x / 0 is infinite
    found = find_wide(model, feeds)
    assert found.narrow_overflows == ("y",)
    assert found.met
    assert set(found.wide) == {"square", "part", "root"}
    assert "loses 100.00% to zero, and y becomes infinite" not in found.wide["square"]
    assert "to zero, and y becomes infinite" in found.wide["square"]


def test_a_tight_tolerance_widens_what_costs_most():
    model, feeds = hard_graphs.attention(1.0)
    loose = find_wide(model, feeds)
    tight = find_wide(model, feeds, tolerance=loose.loss / 3)
    assert loose.wide == {}
    assert tight.met
    assert 0 < len(tight.wide) < len(model.graph)
    assert tight.loss <= loose.loss / 3


def test_a_loss_of_ones_own_decides():
    model, feeds = hard_graphs.attention(1000.0)
    asked = []

    def mean_difference(reference, got):
        asked.append(np.isfinite(got["y"][0]).all())
        return float(np.abs(reference["y"][0] - got["y"][0]).mean())

    found = find_wide(model, feeds, loss=mean_difference, tolerance=1e-2)
    assert found.met
    assert all(asked)
    assert found.loss == pytest.approx(mean_difference(
        outputs(model, feeds),
        outputs(emulate_half(to_half(model, "fp16", wide=found.wide).model), feeds),
    ), rel=0.3)  # fmt: skip


def test_nodes_to_start_from_are_kept():
    model, feeds = hard_graphs.attention(1000.0)
    found = find_wide(model, feeds, start={"softmax": "asked for"})
    assert set(found.wide) == {"softmax", "logits", "scale"}
    assert found.wide["softmax"] == "asked for"
    with pytest.raises(UsageError, match="No node is named nope"):
        find_wide(model, feeds, start={"nope": ""})


def test_a_quantised_graph_is_mended_of_overflows_alone():
    model = qdq_graphs.quantised_mlp()
    feeds = [{"x": RANDOM.standard_normal((2, 32)).astype(np.float32)}]
    found = find_wide(model, feeds, tolerance=math.inf)
    assert (found.wide, found.met) == ({}, True)
    large = [{"x": np.full((2, 32), 1e5, np.float32)}]
    # The input is beyond FP16, which neither Tanh nor INT8 would let anyone see.
    found = find_wide(model, large, tolerance=math.inf)
    assert found.narrow_overflows == ("x",)
    assert (set(found.wide), found.overflows) == ({"tanh0"}, ())


def test_few_runs_are_said_to_have_been_few():
    (model, feeds), _, _ = HARD["residual_of_1e5"]
    found = find_wide(model, feeds, limit=1)
    assert not found.met
    assert found.wide == {}
    assert found.loss == math.inf


def test_progress_only_rises_and_ends():
    (model, feeds), _, _ = HARD["rms_norm_of_1e-4"]
    seen: list[float] = []
    find_wide(model, feeds, progress=seen.append)
    assert all(0 <= share <= 1 for share in seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    ("feeds", "told"),
    [
        ([], "There are no samples"),
        ([{"x": np.full((1, 16), np.nan, np.float32)}], "holds NaN or infinity in FP32"),
    ],
)
def test_samples_that_say_nothing_are_refused(feeds, told):
    with pytest.raises(InputError, match=told):
        find_wide(graphs.mlp(), feeds)


def test_values_are_fetched_in_groups_that_fit(monkeypatch):
    (model, feeds), _, wanted = HARD["layer_norm_in_steps"]
    whole = find_wide(model, feeds)
    monkeypatch.setattr(wide_trials, "FETCH_BYTES", 3000)  # two or three values of 1 KiB
    grouped = find_wide(model, feeds)
    assert set(grouped.wide) == set(whole.wide) == wanted
    assert grouped.runs > whole.runs


# Not the L2 norm: where it is wide, its steps sum in another order than the operator.
SWITCHED = {
    **{n: (case[0][0], case[0][1][0]) for n, case in HARD.items() if n != "l2_norm_of_300"},
    **{name: (model, feeds[0]) for name, (model, feeds) in SOUND.items()},
    "conv_net": (
        graphs.conv_net(), {"x": RANDOM.standard_normal((1, 3, 16, 16)).astype(np.float32)},
    ),
    "quantised_mlp": (
        qdq_graphs.quantised_mlp(), {"x": RANDOM.standard_normal((3, 32)).astype(np.float32)},
    ),
    "quantised_conv_net": (
        qdq_graphs.quantised_conv_net(),
        {"x": RANDOM.standard_normal((1, 8, 8, 8)).astype(np.float32)},
    ),
}  # fmt: skip
SESSIONS = {
    (name, kind): Switched(model, half_of(kind))
    for name, (model, _) in SWITCHED.items()
    for kind in ("fp16", "bf16")
}


@given(key=st.sampled_from(sorted(SESSIONS)), data=st.data())
@settings(max_examples=80, deadline=None)
def test_switches_do_what_the_typed_graph_does(key, data):
    name, kind = key
    model, feeds = SWITCHED[name]
    switched = SESSIONS[key]
    wide = data.draw(st.sets(st.sampled_from([str(node.name) for node in model.graph])))
    emulated = emulate_half(to_half(model, kind, wide=wide).model)
    wanted = list(outputs(emulated, [feeds]).values())
    got, _ = switched.run(feeds, switched.flags(wide))
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b[0])


def test_a_family_is_a_value_in_all_its_forms():
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"], name="tanh"),
        helper.make_node("Transpose", ["t"], ["turned"], name="turn", perm=[1, 0]),
        helper.make_node("Concat", ["turned", "turned"], ["twice"], name="join", axis=0),
        helper.make_node("Exp", ["twice"], ["y"], name="exp"),
    ]
    model = graphs.model(nodes, {}, inputs={"x": [2, 3]}, outputs={"y": [6, 2]})
    families, constants = units_of(Switched(model, FP16))
    assert families["t"] is families["turned"] is families["twice"]
    assert families["t"].nodes == ("tanh", "turn", "join", "exp")
    assert families["y"].nodes == ("exp",)
    assert families["x"].nodes == ("tanh",)
    assert constants == []


def test_constants_are_a_unit_of_their_node():
    _, constants = units_of(Switched(graphs.mlp(), FP16))
    assert [unit.nodes for unit in constants] == [("norm",), ("fc1",), ("fc2",), ("bias",)]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "part", "samples", "bound"),
    [
        ("minilm", "text", "sentence_file", {"fp16": 0.004, "bf16": 0.03}),
        ("dinov2-small", "image", "photographs", {"fp16": 0.01, "bf16": 0.06}),
    ],
)
def test_real_transformers_need_nothing_wide(name, part, samples, bound, request, tmp_path):
    from jetlift.export.make import Request, export_recipe
    from jetlift.export.recipes import recipe
    from jetlift.export.samples import ItemContext, prepare

    bundle = export_recipe(recipe(name), "package", Request(tmp_path / name, ("fp32",)))
    described = bundle.manifest.parts[part]
    file = bundle.path(described.variants["fp32"].file)
    folder = request.getfixturevalue(samples)
    split = prepare(ItemContext(folder, described, bundle.folder, {part: file}))
    feeds, model = split.search.feeds[:6], ir.load(file)
    for kind, most in bound.items():
        found = find_wide(model, feeds, kind=kind, tolerance=most)
        assert (found.wide, found.overflows, found.met) == ({}, (), True), kind
        assert loss_of(model, feeds, kind=kind) <= most


def test_effects_grow_with_what_is_rounded():
    model, feeds = hard_graphs.attention(1.0)
    trials = Trials(model, FP16, feeds, relative_error)
    edges = range(len(trials.graph.edges))
    steps = [trials.effect(0, list(edges)[:i]) for i in (0, len(edges) // 2, len(edges))]
    assert steps[0] == 0
    assert all(a < b for a, b in pairwise(steps))
