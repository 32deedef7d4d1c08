"""A board as a target on a machine that is none: what is checked, tried, written and said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema
import onnx
import pytest
from helpers.house import ROOT
from helpers.tiny_bundle import tiny_bundle
from helpers.typed_graphs import typed_product

from jetlift.engines import handover
from jetlift.engines.board_recipe import FILE_NAME, read_recipe, recipe_path
from jetlift.engines.graph_types import demanding_types
from jetlift.engines.handover import SIBLINGS, hand_over
from jetlift.engines.receipt import Built, receipt
from jetlift.engines.targets import TARGETS, target
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import MANIFEST_NAME, Bundle, list_files
from jetlift.runtime.errors import (
    EngineLibraryError,
    MissingPackageError,
    PassportError,
    UnknownNameError,
    UsageError,
)

if TYPE_CHECKING:
    from pathlib import Path

NANO, THOR = target("orin-nano-8gb"), target("thor-t5000")
BUILT = Built("as typed", receipt(None, None, observed_by="a test"))


class Builder:
    """Stands where the sibling's compiler stands: writes a file, refuses, or is not there."""

    def __init__(self, refuse: str = "", error: Exception | None = None) -> None:
        self.refuse, self.error = refuse, error
        self.calls: list[tuple[str, str, str]] = []
        self.folders: list[Path] = []

    def __call__(self, part: str, variant: str, destination: Path, capability: str) -> Built:
        self.calls.append((part, variant, capability))
        self.folders.append(destination.parent)
        if self.error is not None and variant == self.refuse:
            raise self.error
        destination.write_bytes(b"an engine for the sibling")
        return BUILT


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "tiny")


def with_graph(bundle: Bundle, model: onnx.ModelProto) -> Bundle:
    """The bundle with another fp16 graph in part mlp, as if it had been exported so."""
    path = bundle.path(bundle.variant("mlp", "fp16").file)
    onnx.save(model, path)
    manifest = replace(bundle.manifest, files=list_files(bundle.folder))
    (bundle.folder / MANIFEST_NAME).write_text(jsonform.dumps(manifest), encoding="utf-8")
    return Bundle.open(bundle.folder)


def test_everything_is_checked_tried_and_written(bundle: Bundle) -> None:
    builder, told = Builder(), []
    done = hand_over(bundle, NANO, None, sibling_builder=builder, tell=told.append)
    assert builder.calls == [
        (part, variant, "8.6") for part in ("mlp", "image") for variant in ("fp32", "fp16", "int8")
    ]
    assert len(told) == 12
    recipe = done.recipe
    assert (done.refused, done.doubtful) == ((), ())
    assert {item.sibling.outcome for item in recipe.engines} == {"built"}
    assert recipe.command == "jetlift build tiny --target orin-nano-8gb"
    assert recipe.bundle_sha256 == bundle.sha256
    assert recipe.expected.tensorrt == "10.16.2"
    assert recipe.expected.l4t is not None


def test_no_engine_of_a_sibling_stays(bundle: Bundle) -> None:
    builder = Builder()
    done = hand_over(bundle, NANO, None, sibling_builder=builder)
    assert [path.name for path in done.path.parent.iterdir()] == [FILE_NAME]
    assert [path for path in builder.folders if path.exists()] == []
    Bundle.open(bundle.folder)  # the recipe lies where a bundle's engines lie, so it still verifies


def test_what_is_said_ends_in_the_one_command(bundle: Bundle) -> None:
    said = hand_over(bundle, NANO, ["fp32"], sibling_builder=Builder()).sentences()
    assert "not for orin-nano-8gb (SM 8.7): no engine was kept" in said[0]
    assert said[-1].endswith("jetlift build tiny --target orin-nano-8gb --precision fp32")
    assert "JetPack 7.2.1" in said[-1]


def test_the_recipe_is_of_the_published_form_and_comes_back(bundle: Bundle) -> None:
    done = hand_over(bundle, THOR, None, sibling_builder=Builder())
    schema = json.loads((ROOT / "docs/schemas/board_recipe.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(done.path.read_text()))
    assert read_recipe(bundle, "thor-t5000") == done.recipe
    assert read_recipe(bundle, "orin-nano-8gb") is None


def test_a_release_is_chosen_by_name(bundle: Bundle) -> None:
    done = hand_over(bundle, NANO, None, jetpack="6.2", sibling_builder=None)
    assert (done.recipe.expected.jetpack, done.recipe.expected.python) == ("6.2", "3.10")
    assert {item.sibling.outcome for item in done.recipe.engines} == {"not tried"}
    assert "No sibling build was made: it was not asked for." in done.sentences()


@pytest.mark.parametrize(
    ("name", "jetpack", "words"),
    [
        ("orin-nano-8gb", "7.1", "10.13.3 has no kernels for SM 8.7"),
        ("orin-nano-8gb", "6.0", "older than 10.3"),
        ("thor-t5000", "6.2", "alone"),
    ],
)
def test_a_release_that_does_not_fit_is_refused(
    bundle: Bundle, name: str, jetpack: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        hand_over(bundle, target(name), None, jetpack=jetpack, sibling_builder=None)
    assert caught.value.expected.startswith("One of 7.2.2")
    assert not recipe_path(bundle, name).exists()


def test_a_graph_that_the_board_cannot_compute_is_refused(bundle: Bundle) -> None:
    altered = with_graph(bundle, typed_product("fp8"))
    builder = Builder()
    done = hand_over(altered, NANO, None, sibling_builder=builder)
    (refused,) = done.refused
    assert (refused.part, refused.variant) == ("mlp", "fp16")
    assert "the graph has it at" in refused.reason
    assert refused.sibling.outcome == "not tried"
    assert ("mlp", "fp16", "8.6") not in builder.calls
    # The other part's fp16 is still to be built, so its name stays in the command.
    assert done.recipe.command.endswith("orin-nano-8gb")
    assert "mlp fp16 is refused" in done.sentences()[0]
    on_thor = hand_over(altered, THOR, None, sibling_builder=None)
    assert on_thor.refused == ()


def test_where_nothing_is_left_there_is_no_recipe(bundle: Bundle) -> None:
    part = bundle.manifest.parts["mlp"]
    only = replace(part, variants={"fp16": part.variants["fp16"]})
    altered = with_graph(bundle, typed_product("fp8"))
    altered = replace(altered, manifest=replace(altered.manifest, parts={"mlp": only}))
    with pytest.raises(UsageError, match=r"none of it: mlp fp16: FP8 needs SM 8\.9"):
        hand_over(altered, NANO, None, sibling_builder=Builder())
    assert not recipe_path(altered, "orin-nano-8gb").exists()


def test_a_refusal_by_the_sibling_is_told_and_handed_over(bundle: Bundle) -> None:
    builder = Builder("int8", EngineLibraryError("it does not take node fc1"))
    done = hand_over(bundle, NANO, None, sibling_builder=builder)
    assert [item.variant for item in done.doubtful] == ["int8", "int8"]
    assert {item.verdict for item in done.recipe.engines} == {"to build"}
    assert "so the board may: it does not take node fc1" in done.sentences()[0]


def test_a_missing_compiler_is_no_refusal(bundle: Bundle) -> None:
    error = MissingPackageError("tensorrt_rtx", extra="rtx", purpose="to build")
    done = hand_over(bundle, NANO, ["fp32"], sibling_builder=Builder("fp32", error))
    assert {item.sibling.note for item in done.recipe.engines} == {"tensorrt_rtx is not installed"}
    assert done.doubtful == ()


def test_an_interrupted_handover_leaves_no_recipe(bundle: Bundle) -> None:
    builder = Builder("int8", KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        hand_over(bundle, NANO, None, sibling_builder=builder)
    assert not recipe_path(bundle, "orin-nano-8gb").exists()
    assert [path for path in builder.folders if path.exists()] == []


def test_options_enter_the_recipe_and_its_command(bundle: Bundle) -> None:
    options: dict[str, Any] = {"dla-core": 0, "stripped": True, "refittable": False, "level": None}
    done = hand_over(bundle, NANO, None, sibling_builder=None, options=options)
    assert done.recipe.command.endswith("orin-nano-8gb --dla-core 0 --stripped")
    assert done.recipe.options == options


def test_a_folder_with_a_space_can_be_copied_into_a_shell(tmp_path: Path) -> None:
    done = hand_over(tiny_bundle(tmp_path / "my net"), NANO, None, sibling_builder=None)
    assert done.recipe.command.startswith("jetlift build 'my net' --target")


def test_usage(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="rtx-sm86 is no board"):
        hand_over(bundle, target("rtx-sm86"), None, sibling_builder=None)
    with pytest.raises(UnknownNameError, match="has a bf16 variant"):
        hand_over(bundle, NANO, ["bf16"], sibling_builder=None)


def test_a_recipe_of_another_bundle_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    done = hand_over(bundle, NANO, None, sibling_builder=None)
    other = tiny_bundle(tmp_path / "other", precisions=["fp32"])
    path = recipe_path(other, "orin-nano-8gb")
    path.parent.mkdir(parents=True)
    path.write_bytes(done.path.read_bytes())
    with pytest.raises(PassportError, match="another bundle"):
        read_recipe(other, "orin-nano-8gb")
    path.write_text("{}")
    with pytest.raises(PassportError, match="refused at"):
        read_recipe(other, "orin-nano-8gb")
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(PassportError, match="larger than any recipe"):
        read_recipe(other, "orin-nano-8gb")


def test_the_real_compiler_of_the_sibling_is_asked(bundle: Bundle) -> None:
    reason = "TensorRT-RTX is not installed (pip install 'jetlift[rtx]')"
    pytest.importorskip("tensorrt_rtx", reason=reason)
    pytest.importorskip("polygraphy", reason=reason)
    from jetlift.engines.trt.build import build_engine

    def build(part: str, variant: str, destination: Path, capability: str) -> Built:
        return build_engine(
            bundle.path(bundle.variant(part, variant).file),
            destination,
            None,
            inputs=bundle.part(part)[1].inputs,
            compute_capability=capability,
        )

    done = hand_over(bundle, THOR, ["int8"], sibling_builder=build)
    assert {item.sibling.outcome for item in done.recipe.engines} == {"built"}
    assert "not for thor-t5000 (SM 11.0): no engine was kept" in done.sentences()[0]


def test_every_board_has_a_sibling() -> None:
    boards = {item.compute_capability for item in TARGETS.values() if item.device}
    assert boards == set(SIBLINGS)
    rtx = {item.compute_capability for item in TARGETS.values() if item.library == "tensorrt_rtx"}
    assert set(SIBLINGS.values()) <= rtx


@pytest.mark.parametrize(
    ("variant", "found"),
    [("fp32", {}), ("fp16", {}), ("int8", {}), ("bf16", {"bf16"}), ("fp8", {"fp8"})],
)
def test_types_of_a_graph_are_read(tmp_path: Path, variant: str, found: set[str]) -> None:
    onnx.save(typed_product(variant), tmp_path / "graph.onnx")
    assert set(demanding_types(tmp_path / "graph.onnx")) == set(found)


def test_a_file_that_is_no_graph_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"\xff\xffno graph at all")
    with pytest.raises(EngineLibraryError, match="no ONNX graph"):
        demanding_types(tmp_path / "graph.onnx")


def test_without_onnx_the_manifest_alone_is_judged(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_path: Path) -> dict[str, str]:
        raise MissingPackageError("onnx", extra="rtx", purpose="to read graphs")

    monkeypatch.setattr(handover, "demanding_types", missing)
    assert hand_over(bundle, NANO, None, sibling_builder=None).refused == ()
