"""YOLOX: 80 kinds of things in a picture, with boxes; the fixed-vocabulary baseline.

Ge et al., YOLOX: Exceeding YOLO Series in 2021, arXiv 2107.08430. Sizes:
Megvii-BaseDetection/YOLOX@main: exps/default/yolox_nano.py and its siblings. The published weights
are files of a GitHub release, as PyTorch's checkpoint and as ONNX; both load:

    jetlift export yolox-s --weights yolox_s.pth        {"model": state}, read without code
    jetlift export yolox-s --weights yolox_s.onnx       normalisation folded into convolutions

Preprocessing is the repository's own (yolox/data/data_augment.py, preproc), but for the filter:
OpenCV's exact linear one, which is alike on every processor. See docs/yolox.md for the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.export import detector, random_weights, safe_pickle, weights
from jetlift.export.coco import COCO_LABELS
from jetlift.export.fidelity import boxes
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe
from jetlift.runtime.errors import ArtefactError, UsageError
from jetlift.runtime.manifest import Detection, ImagePreprocess, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from jetlift.export.fidelity.metric import Metric, MetricContext
    from jetlift.export.recipes.yolox_modules import Yolox

LICENCE = "Apache-2.0"
SOURCE = "Megvii-BaseDetection/YOLOX"
RELEASE = f"https://github.com/{SOURCE}/releases/download/0.1.1rc0"
INPUT, OUTPUT = "images", "output"
PARTS_NAME = "image"
LARGEST_BATCH = 8
_SUFFIXES = (".pth", ".safetensors", ".onnx")


@dataclass(frozen=True)
class Size:
    """One size of YOLOX.

    Attributes:
        depth: Factor on the numbers of bottlenecks.
        width: Factor on the numbers of channels.
        side_px: Side of the input.
        depthwise: Whether convolutions of 3x3 are split in two.
        labels: Names of the classes.
    """

    depth: float
    width: float
    side_px: int = 640
    depthwise: bool = False
    labels: tuple[str, ...] = COCO_LABELS

    def module(self) -> Yolox:
        """The module, initialised as torch does."""
        from jetlift.export.recipes.yolox_modules import Yolox

        return Yolox(
            self.depth, self.width, depthwise=self.depthwise, classes=len(self.labels)
        ).eval()


NANO = Size(0.33, 0.25, 416, depthwise=True)
TINY_PUBLISHED = Size(0.33, 0.375, 416)
SMALL, MEDIUM = Size(0.33, 0.5), Size(0.67, 0.75)
LARGE, EXTRA_LARGE = Size(1.0, 1.0), Size(1.33, 1.25)
# For tests: no published weights have it.
TINY = Size(0.33, 0.125, 64, depthwise=True, labels=("red", "blue"))


def detection() -> Detection:
    """How the raw output becomes boxes."""
    return Detection(
        head="yolox",
        strides=detector.STRIDES,
        labels=detector.LABELS_PATH,
        score_threshold=detector.SCORE_THRESHOLD,
        iou_threshold=detector.IOU_THRESHOLD,
    )


def preprocess(size: Size) -> ImagePreprocess:
    """BGR, 0 to 255, at the top left, the rest grey."""
    return ImagePreprocess(
        kind="image",
        input=INPUT,
        size_wh=(size.side_px, size.side_px),
        fit="letterbox",
        resize_short=None,
        resample="linear_exact",
        colour="bgr",
        scale=1.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        pad_value=detector.PAD_VALUE,
    )


def part(size: Size) -> PartRecipe:
    """The one part of a size."""
    axes = (3, size.side_px, size.side_px)
    return PartRecipe(
        inputs=(
            TensorSpec(
                name=INPUT,
                dtype="float32",
                shape=("batch", *axes),
                min_shape=(1, *axes),
                opt_shape=(1, *axes),
                max_shape=(LARGEST_BATCH, *axes),
            ),
        ),
        output_names=(OUTPUT,),
        preprocess=preprocess(size),
        budget=boxes.BUDGET,
        metric=partial(_metric, size),
        detection=detection(),
    )


def _metric(size: Size, _context: MetricContext) -> Metric:
    return boxes.BoxMetric(OUTPUT, (size.side_px, size.side_px), detection())


def load(size: Size, title: str, stem: str, source: str | None) -> Loaded:
    """Build the module from a file, or the word 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    seed = random_weights.seed_of(source)
    if seed is not None:
        module = random_weights.initialised(size.module, seed)
        described = random_weights.describe(seed, title)
    else:
        file = _file_of(source, title, stem)
        module = size.module()
        if file.suffix == ".onnx":
            from jetlift.export.recipes.yolox_folded import load_folded

            load_folded(module, file, size.side_px, title)
        else:
            fill(module, _state_of(file), title)
        described = weights.describe(str(file.name), file, hub_id=SOURCE, licence=LICENCE)
    names = "".join(f"{label}\n" for label in size.labels).encode()
    return Loaded(described, {PARTS_NAME: module}, {detector.LABELS_PATH: names})


def _file_of(source: str | None, title: str, stem: str) -> Path:
    """The weights file that the user named.

    Raises:
        UsageError: None was named, or none that is there.
    """
    path = None if source is None else Path(source).expanduser()
    if path is not None and path.is_file() and path.suffix in _SUFFIXES:
        return path
    got = f"--weights got {source!r}" if source else f"No file with {title}'s weights was named"
    raise UsageError(
        got,
        expected="The release's file .pth or .onnx (or .safetensors of the same names)",
        do=f"curl -LO {RELEASE}/{stem}.pth, then --weights {stem}.pth; "
        "or --weights random for its structure",
    )


def _state_of(file: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a checkpoint, float32, read without running code.

    Beside `model` it may hold the optimiser and the epoch, which are no weights.

    Raises:
        InputError: The file cannot be read.
        ArtefactError: It holds no tensors by name, or more than tensors and plain values.
    """
    import numpy as np
    import torch

    read = weights.read_safetensors if file.suffix == ".safetensors" else safe_pickle.read_arrays
    return {name: torch.from_numpy(np.array(value)) for name, value in read(file).items()}


def fill(module: torch.nn.Module, state: Mapping[str, torch.Tensor], title: str) -> None:
    """Load a state dict, every name once.

    Raises:
        ArtefactError: A name is missing or left over, or a tensor has another shape.
    """
    own = module.state_dict()
    wrong = {
        "missing": sorted(own.keys() - state.keys())[:3],
        "left over": sorted(state.keys() - own.keys())[:3],
        "of another shape": [
            f"{name} {list(state[name].shape)} for {list(own[name].shape)}"
            for name in own.keys() & state.keys()
            if own[name].shape != state[name].shape
        ][:3],
    }
    if any(wrong.values()):
        told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in wrong.items() if names)
        raise ArtefactError(
            f"The weights do not fit {title}. {told}",
            expected="Every name of the published checkpoint once, and no other",
            do="Choose the model of that size (jetlift models)",
        )
    module.load_state_dict(state)


def recipe(name: str, title: str, size: Size, stem: str, parameters: int) -> Recipe:
    """One size as a recipe."""
    return Recipe(
        name=name,
        title=title,
        tasks=("detect",),
        hub_id=f"github.com/{SOURCE}: {stem}.pth",
        licence=LICENCE,
        packaged=None,
        parameters=parameters,
        parts={PARTS_NAME: part(size)},
        load=partial(load, size, title, stem),
        random=True,
    )


RECIPES = (
    recipe("yolox-nano", "YOLOX-nano", NANO, "yolox_nano", 912_159),
    recipe("yolox-tiny", "YOLOX-tiny", TINY_PUBLISHED, "yolox_tiny", 5_055_855),
    recipe("yolox-s", "YOLOX-s", SMALL, "yolox_s", 8_968_255),
    recipe("yolox-m", "YOLOX-m", MEDIUM, "yolox_m", 25_326_495),
    recipe("yolox-l", "YOLOX-l", LARGE, "yolox_l", 54_208_895),
    recipe("yolox-x", "YOLOX-x", EXTRA_LARGE, "yolox_x", 99_071_455),
)
