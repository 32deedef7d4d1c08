"""ViT: parity with transformers, published names, labels, pixels, cost and the metric."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers import vit as paper
from helpers.checkpoints import documented
from safetensors.torch import save_file

from jetlift.export import random_weights
from jetlift.export.fidelity.classes import ClassMetric
from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import metric_for, vit
from jetlift.export.samples import seeded
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import ArtefactError, InputError
from jetlift.runtime.session import open_session
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import open_task

TINY = vit.recipe("vit-tiny", "ViT, tiny", vit.TINY, "nobody/none", 0)
PICTURE = np.full((50, 40, 3), (30, 90, 200), np.uint8)


@pytest.fixture(scope="module")
def model():
    """transformers' own ViT with the same weights as the bundle."""
    from transformers import ViTForImageClassification

    return random_weights.drawn(ViTForImageClassification, vit.config_of(vit.TINY), 3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    out = tmp_path_factory.mktemp("vit") / "bundle"
    return export_recipe(TINY, "random:3", Request(out, ("fp32",)))


def test_scores_are_those_of_transformers(bundle, model):
    from jetlift.runtime.preprocess import prepare_image

    pixels = prepare_image(PICTURE, bundle.part("image")[1].preprocess)
    with torch.no_grad():
        logits = model(torch.from_numpy(pixels)).logits.numpy()
    with open_session(bundle, "image", "fp32", target="cpu-onnxruntime") as session:
        got = session.run({"pixel_values": pixels})["logits"]
        fields = open_task("classify", bundle, session, precision="fp32", count=3).run(
            Frame("p", 0, None, PICTURE)
        )
    assert np.abs(got - logits).max() / np.abs(logits).max() < 1e-4
    order = np.argsort(-logits[0])[:3]
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert fields["labels"] == [f"class {number}" for number in order]
    np.testing.assert_allclose(fields["scores"], shares[order], rtol=1e-4)


def test_parameters_are_those_of_transformers():
    from transformers import ViTForImageClassification

    with torch.device("meta"):
        model = ViTForImageClassification(vit.config_of(vit.B16))
    assert sum(item.numel() for item in model.parameters()) == vit.RECIPE.parameters
    assert sum(int(np.prod(s)) for s in documented("vit-b16").values()) == vit.RECIPE.parameters


def published(folder, *, drop=(), labels=10, **more) -> dict[str, torch.Tensor]:
    """A folder as a checkpoint has it, with the names that older versions of transformers gave."""
    sizes = {768: 32, 3072: 128, 1000: 10, 197: 17, 16: 8}
    random = torch.Generator().manual_seed(5)
    state = {
        name: torch.randn([sizes.get(axis, axis) for axis in shape], generator=random)
        for name, shape in documented("vit-b16").items()
        if ".layer." not in name or int(name.split(".layer.")[1].partition(".")[0]) < 2
    }
    folder.mkdir()
    kept = {name: value for name, value in (state | more).items() if name not in drop}
    save_file(kept, folder / "model.safetensors")
    names = {str(number): f"thing {number},\n alias" for number in range(labels)}
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "id2label": names}))
    return state


def test_a_checkpoint_is_read_with_every_key_used_once(tmp_path):
    state = published(tmp_path / "saved")
    loaded = TINY.load(str(tmp_path / "saved"))
    read = sorted(p.detach().numpy().tobytes() for p in loaded.modules["image"].parameters())
    assert read == sorted(value.numpy().tobytes() for value in state.values())
    labels = loaded.assets[vit.LABELS].decode().splitlines()
    assert labels[3] == "thing 3, alias"
    assert len(labels) == 10


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    published(tmp_path / "short", drop=("classifier.bias",))
    with pytest.raises(ArtefactError, match="do not fit"):
        TINY.load(str(tmp_path / "short"))
    published(tmp_path / "long", **{"extra.weight": torch.zeros(2)})
    with pytest.raises(ArtefactError, match="do not fit"):
        TINY.load(str(tmp_path / "long"))
    for count in (9, 11):
        published(tmp_path / f"labels{count}", labels=count)
        with pytest.raises(InputError, match="names"):
            TINY.load(str(tmp_path / f"labels{count}"))


def test_pixels_are_those_of_the_image_processor():
    data = pytest.importorskip("skimage.data")
    module = pytest.importorskip("transformers.models.vit.image_processing_pil_vit")
    image_module = pytest.importorskip("PIL.Image")
    from jetlift.runtime.preprocess import prepare_image

    processor = module.ViTImageProcessorPil()
    for name in ("astronaut", "chelsea"):
        whole = getattr(data, name)()
        for rgb in (whole, whole[:301, :333], whole[:97, :36], whole[:1, :1]):
            picture = image_module.fromarray(np.ascontiguousarray(rgb))
            theirs = processor(picture, return_tensors="np")["pixel_values"]
            ours = prepare_image(rgb[..., ::-1], vit.part(vit.B16).preprocess)
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name} {rgb.shape}")


def test_operations_are_those_on_paper(bundle):
    cost = bundle.variant("image", "fp32").cost
    macs = paper.products_macs(width=32, depth=2, patch=8, size=32) + 32 * 10
    assert sum(cost.operations_by_precision.values()) == pytest.approx(2 * macs, rel=1e-6)
    # shared/jetson/workloads.csv: vit_base_patch16_224
    macs = paper.products_macs(width=768, depth=12, patch=16, size=224) + 768 * 1000
    assert macs / 1e9 == pytest.approx(17.5638, rel=0.02)


def test_variants_are_judged_by_the_first_class(bundle):
    metric = vit.part(vit.TINY).metric(None)
    assert isinstance(metric, ClassMetric)
    scores = {"logits": [np.array([[0.0, 2.0, 1.0]]), np.array([[5.0, 2.0, 1.0]])]}
    other = {"logits": [np.array([[0.0, 2.0, 1.0]]), np.array([[1.0, 2.0, 1.0]])]}
    assert metric.figures(scores, other)["top1_agreement"] == 0.5
    samples = seeded(bundle.part("image")[1]).calibration
    assert metric_for(
        bundle, "image", samples
    ).names  # a bundle of no recipe is compared as vectors


def test_a_budget_on_the_first_class_is_kept_with_samples(tmp_path):
    """The path that trained weights take: gate, search and report, here on a saved random model."""
    import cv2

    published(tmp_path / "saved")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(12):
        noise = np.random.default_rng(index).integers(0, 256, (40, 50, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index:02d}.png"), noise)
    request = Request(tmp_path / "out", ("fp32", "fp16"), samples=folder, keep=True)
    made = export_recipe(TINY, str(tmp_path / "saved"), request)
    judged = made.variant("image", "fp16").fidelity
    assert {"top1_agreement", "top5_agreement"} <= judged.figures.keys()
    assert judged.budget.startswith("top1_agreement>=")
