"""Detic's bundle at work: its graphs beside the modules, any picture, samples, cost, engines."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.detic import found_by_torch, picture, words_of

from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import detic, detic_sizes
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import ArtefactError, UsageError
from jetlift.runtime.prompts import Prompts, build_prompts
from jetlift.runtime.session import open_session
from jetlift.runtime.tasks import open_detic
from jetlift.runtime.tasks.open_detect import find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jetlift.runtime.session.base import Session

SWIN, RESNET = detic_sizes.TINY_SWIN, detic_sizes.TINY_R50
TINY = detic.recipe("detic-tiny", "Detic, tiny", RESNET, "none.pth", 0)
SEED = 3
LOW = 0.05


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    out = tmp_path_factory.mktemp("detic") / "bundle"
    return export_recipe(TINY, f"random:{SEED}", Request(out, ("fp32", "fp16")))


@contextlib.contextmanager
def sessions(bundle: Bundle, precision: str, target: str) -> Iterator[dict[str, Session]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(open_session(bundle, name, precision, target=target))
            for name in ("proposals", "regions", "masks")
        }


@pytest.fixture(scope="module")
def opened(bundle) -> Iterator[dict[str, Session]]:
    with sessions(bundle, "fp32", "cpu") as found:
        yield found


@pytest.fixture(scope="module")
def prompts(bundle) -> Prompts:
    target = "cpu-onnxruntime"
    with open_session(bundle, "text", "fp32", target=target) as session:
        return build_prompts(
            bundle, session, ["excavator", "ear tag"], precision="fp32", target=target
        )


def family_of(bundle: Bundle, opened) -> open_detic.Detic:
    family = open_detic.open_family(bundle, opened["proposals"], opened)
    # Random weights are sure of nothing.
    family._words = dataclasses.replace(family._words, score_threshold=LOW)
    return family


@pytest.mark.parametrize("target", ["cpu", "cpu-onnxruntime"])
def test_the_graphs_find_what_the_modules_find(bundle, prompts, target):
    image = picture(150, 120, 1)
    model = detic.drawn(RESNET, SEED)
    with sessions(bundle, "fp32", target) as opened:
        got = find(family_of(bundle, opened), image, prompts)
    found, masks = found_by_torch(model, RESNET, image, prompts.features, LOW)
    assert len(got.scores) > 3
    np.testing.assert_array_equal(got.labels, found.labels)
    np.testing.assert_allclose(got.scores, found.scores, rtol=1e-3)
    np.testing.assert_allclose(got.boxes_xyxy, found.boxes_xyxy, rtol=1e-3, atol=0.05)
    assert [m.shape for m in got.masks] == [(120, 150)] * len(got.scores)
    differ = sum(int((a != b).sum()) for a, b in zip(got.masks, masks, strict=True))
    assert differ <= 0.001 * got.masks[0].size * len(masks)


def test_pictures_of_any_size_are_taken(bundle, opened, prompts):
    family = family_of(bundle, opened)
    for width, height in ((1, 1), (7680, 4320), (3, 900)):
        image = np.full((height, width, 3), 90, np.uint8)
        found = find(family, image, prompts)
        assert (found.boxes_xyxy <= [width, height, width, height]).all()
        assert len(found.masks) == len(found.scores)
        assert all(mask.shape == (height, width) for mask in found.masks[:2])


def test_what_does_not_fit_is_refused(bundle, opened, prompts):
    family = family_of(bundle, opened)
    image = picture(60, 50, 2)
    with pytest.raises(ArtefactError, match="12 long"):
        find(family, image, Prompts(prompts.head, words_of(2, 12, 1)))
    with pytest.raises(UsageError, match="part masks"):
        open_detic.open_family(bundle, opened["proposals"], {"regions": opened["regions"]})


def test_more_prompts_than_an_engine_takes_are_looked_for_in_groups(bundle, opened, prompts):
    family = family_of(bundle, opened)
    image = picture(150, 120, 1)
    together = find(family, image, prompts)
    family._most_words = (1, family._most_words[1])
    in_groups = find(family, image, prompts)
    assert set(together.labels) == {0, 1}  # of two groups
    np.testing.assert_array_equal(in_groups.labels, together.labels)
    np.testing.assert_allclose(in_groups.scores, together.scores, rtol=1e-5)
    np.testing.assert_allclose(in_groups.boxes_xyxy, together.boxes_xyxy, rtol=1e-5, atol=1e-3)
    assert len(in_groups.masks) == len(together.masks)


def test_nothing_is_found_where_nothing_is_proposed(bundle, opened, prompts):
    family = family_of(bundle, opened)
    family._facts = dataclasses.replace(family._facts, heat_threshold=1.0)
    found = find(family, picture(60, 50, 2), prompts)
    assert len(found.scores) == len(found.boxes_xyxy) == len(found.labels) == len(found.masks) == 0


def test_sixteen_bits_stay_finite(bundle, prompts):
    with sessions(bundle, "fp16", "cpu-onnxruntime") as opened:
        found = find(family_of(bundle, opened), picture(150, 120, 1), prompts)
    assert np.isfinite(found.boxes_xyxy).all()
    assert len(found.scores) > 3


def test_samples_of_every_part_come_from_pictures(bundle, tmp_path):
    """What calibrates parts that see no picture, on the files of the bundle."""
    import cv2

    from jetlift.export import samples

    for index in range(4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(90 + index, 70, index))
    files = {name: bundle.path(item.variants["fp32"].file)
             for name, item in bundle.manifest.parts.items()}  # fmt: skip
    for name, recipe_part in TINY.parts.items():
        part = bundle.part(name)[1]
        context = samples.ItemContext(tmp_path, part, bundle.folder, files)
        split = samples.prepare(context, recipe_part.items)
        feeds = split.calibration.feeds[0]
        assert set(feeds) == {spec.name for spec in part.inputs}
        with open_session(bundle, name, "fp32", target="cpu-onnxruntime") as session:
            assert all(np.isfinite(value).all() for value in session.run(dict(feeds)).values())


def test_operations_are_all_counted(bundle):
    for name, item in bundle.manifest.parts.items():
        cost = item.variants["fp32"].cost
        assert cost.uncounted == (), name
    assert {name: item.runs_per for name, item in bundle.manifest.parts.items()} == {
        "proposals": "input", "regions": "region", "masks": "region", "text": "prompt",
    }  # fmt: skip


@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_every_part_builds(bundle, tmp_path, target):
    import shutil

    from jetlift.engines.build import build

    if target == "rtx-sm86":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    asked = ["fp32", "fp16"] if target == "rtx-sm86" else ["fp32"]
    copy = Bundle.open(shutil.copytree(bundle.folder, tmp_path / "copy"))
    results = build(copy, target, asked)
    assert [(r.part, r.precision) for r in results] == [
        (part, precision) for part in ("proposals", "regions", "masks", "text")
        for precision in asked
    ]  # fmt: skip
    assert not any(result.shortfall for result in results)


@pytest.mark.long
@pytest.mark.parametrize("size", [SWIN, RESNET])
def test_every_variant_of_every_size_builds(tmp_path, size):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    from jetlift.engines.build import build

    recipe = detic.recipe("detic-tiny", "Detic, tiny", size, "none.pth", 0)
    precisions = ("fp32", "fp16", "int8", "int8w")
    made = export_recipe(recipe, "random:1", Request(tmp_path / "out", precisions))
    for target, asked in (("rtx-sm86", list(precisions)), ("cpu", ["fp32", "int8"])):
        results = build(made, target, asked)
        assert not any(result.shortfall for result in results)
        assert len(results) == 4 * len(asked)
