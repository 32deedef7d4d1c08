"""The networks whose operations are counted twice: who defines them, and at what shape.

Operations do not depend on weights: every network has random weights, or none at all (torch's meta
device, on which a tensor has a shape and nothing else).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch

    Tensors = Literal["meta", "fake", "real"]
    Made = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Network:
    """One network at one shape.

    Attributes:
        name: Its name and size.
        source: The package that defines it, or `darknet` for a file of Darknet.
        make: Module in eval mode and its arguments. The caller sets the device.
        listed: Its key in a table of workloads, where it is in one.
        tensors: What it is counted on: `meta` (shapes alone), `fake` (real weights, nothing
            computed) or `real`, where it looks at its own values while it runs.
        listed_left_out_gmac: What that table leaves out, 10^9 multiply-adds; below zero where it
            counts what the definition here does not have.
        counter_left_out_gmac: The same of PyTorch's counter.
        why: What that is, in words.
    """

    name: str
    source: str
    make: Callable[[], Made]
    listed: str | None = None
    tensors: Tensors = "meta"
    listed_left_out_gmac: float = 0.0
    counter_left_out_gmac: float = 0.0
    why: str = ""


def networks(darknet: Path | None = None) -> dict[str, Network]:
    """All, by name.

    Args:
        darknet: Folder with configuration files of Darknet; without it there is none of its own.
    """
    found = (*_torchvision(), *_timm(), *_transformers(), *_ultralytics(), *_recipes())
    more = () if darknet is None else _darknet(darknet)
    return {item.name: item for item in (*found, *more)}


def _picture(side_px: int) -> torch.Tensor:
    import torch

    return torch.zeros(1, 3, side_px, side_px)


_TORCHVISION = (
    "alexnet", "squeezenet1_0", "squeezenet1_1", "resnet18", "resnet34", "resnet50", "resnet101",
    "resnet152", "densenet121", "densenet169", "densenet201", "densenet161", "vgg11", "vgg13",
    "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "mobilenet_v2",
    "shufflenet_v2_x1_0", "resnext50_32x4d", "googlenet",
)  # fmt: skip
_SEGMENTERS = ("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101")


def _torchvision() -> Iterator[Network]:
    def made(name: str, side_px: int) -> Made:
        models = importlib.import_module("torchvision.models")
        extra: dict[str, Any] = {"weights_backbone": None} if name in _SEGMENTERS else {}
        extra |= {"init_weights": False} if name == "googlenet" else {}
        model = models.get_model(name, weights=None, **extra)
        return model.eval(), (_picture(side_px),)

    sizes = [(name, 224, True) for name in _TORCHVISION]
    sizes += [(name, 256, True) for name in ("resnet18", "resnet34", "resnet50")]
    sizes += [(name, 512, True) for name in _SEGMENTERS]
    sizes += [(name, 224, False) for name in ("efficientnet_b0", "convnext_tiny", "regnet_y_400mf")]
    for name, side_px, listed in sizes:
        key = f"{name}@{side_px}"
        # RegNet works its widths out with tensors, which must have content.
        tensors: Tensors = "fake" if name.startswith("regnet") else "meta"
        make = partial(made, name, side_px)
        yield Network(key, "torchvision", make, key if listed else None, tensors)

    key = "retinanet_resnext50@800"
    yield Network(key, "torchvision", _retinanet, key)


def _retinanet() -> Made:
    """RetinaNet of ResNeXt-50 with the 264 classes of MLPerf's Open Images, up to its heads."""
    import torch

    detection = importlib.import_module("torchvision.models.detection")
    backbones = importlib.import_module("torchvision.models.detection.backbone_utils")
    pyramid = importlib.import_module("torchvision.ops.feature_pyramid_network")
    backbone = backbones.resnet_fpn_backbone(
        backbone_name="resnext50_32x4d", weights=None, returned_layers=[2, 3, 4],
        extra_blocks=pyramid.LastLevelP6P7(256, 256), trainable_layers=5,
    )  # fmt: skip
    model = detection.RetinaNet(backbone, 264).eval()

    class Heads(torch.nn.Module):
        """[1, 3, height, width] -> scores and offsets of all anchors."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = self.model.head(list(self.model.backbone(picture).values()))
            return found["cls_logits"], found["bbox_regression"]

    return Heads().eval(), (_picture(800),)


def _timm() -> Iterator[Network]:
    def made(name: str, side_px: int, **extra: Any) -> Made:  # noqa: ANN401 - timm's own arguments
        timm = importlib.import_module("timm")
        return timm.create_model(name, pretrained=False, **extra).eval(), (_picture(side_px),)

    for size in ("b1", "b2", "b3"):
        for side_px in (224, 256, 288):
            name = f"efficientvit_{size}"
            key = f"{name}@{side_px}"
            yield Network(key, "timm", partial(made, name, side_px), key)
    yield Network("seresnet50@224", "timm", partial(made, "seresnet50", 224), "seresnet50@224")
    yield Network(
        "inception_v4@299", "timm", partial(made, "inception_v4", 299), "inception_v4@299"
    )
    for patch in ("patch16", "patch32"):
        name = f"vit_base_{patch}_224"
        yield Network(name, "timm", partial(made, name, 224), name)
    for side_px in (308, 364, 406, 518):
        key = f"vit_small_patch14_dinov2@{side_px}"
        dino = partial(made, "vit_small_patch14_dinov2", side_px, img_size=side_px)
        yield Network(key, "timm", dino, key)
    yield Network("swin_tiny@224", "timm", partial(made, "swin_tiny_patch4_window7_224", 224))


def _transformers() -> Iterator[Network]:
    for patch in (32, 16):
        key, facts = f"clip-vit-base-patch{patch}", {"patch_size": patch}
        clip = _pictured(key, "CLIPVisionModelWithProjection", "CLIPVisionConfig", facts, 224, key)
        why = "the list has a head of 768 x 1000 where CLIP has a projection of 768 x 512."
        yield replace(clip, listed_left_out_gmac=768 * (512 - 1000) / 1e9, why=why)
        key, facts = f"owlvit-base-patch{patch}@768", {"patch_size": patch, "image_size": 768}
        owl = _pictured(key, "OwlViTVisionModel", "OwlViTVisionConfig", facts, 768, key)
        why = "the list has a head of 768 x 1000 behind the encoder that is counted here."
        yield replace(owl, listed_left_out_gmac=-768 * 1000 / 1e9, why=why)
    dino = "dinov2-base-patch14@224"
    facts = {"hidden_size": 768, "patch_size": 14, "image_size": 224}
    yield _pictured(dino, "Dinov2Model", "Dinov2Config", facts, 224, listed=dino)
    yield Network("bert-large@384", "transformers", _bert_large, "bert-large@384")
    yield _pictured("convnext_base@224", "ConvNextForImageClassification", "ConvNextConfig",
                    {"depths": [3, 3, 27, 3], "hidden_sizes": [128, 256, 512, 1024],
                     "num_labels": 1000}, 224)  # fmt: skip
    yield _pictured("swin_base@224", "SwinForImageClassification", "SwinConfig",
                    {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32],
                     "num_labels": 1000}, 224)  # fmt: skip
    yield _pictured("segformer_b0@512", "SegformerForSemanticSegmentation", "SegformerConfig",
                    {"num_labels": 150}, 512)  # fmt: skip
    yield _pictured("efficientnet_b7@600", "EfficientNetForImageClassification",
                    "EfficientNetConfig", {"num_labels": 1000}, 600)  # fmt: skip
    detr = _pictured(
        "detr_resnet50@800", "DetrForObjectDetection", "DetrConfig", {}, 800, tensors="real"
    )
    # 100 queries of width 256: four projections, two products, the next attention's query.
    folded = (5 * 100 * 256 * 256 + 2 * 100 * 100 * 256) / 1e9
    why = "the first self-attention of the decoder is of learned queries alone and is folded."
    yield replace(detr, counter_left_out_gmac=-folded, why=why)


def _pictured(
    name: str,
    kind: str,
    config: str,
    facts: dict[str, Any],
    side_px: int,
    listed: str | None = None,
    tensors: Tensors = "meta",
) -> Network:
    def made() -> Made:
        import transformers

        configured = getattr(transformers, config)(**facts)
        configured._attn_implementation = "eager"  # noqa: SLF001 - their door for attention kinds
        return getattr(transformers, kind)(configured).eval(), (_picture(side_px),)

    return Network(name, "transformers", made, listed, tensors)


def _bert_large() -> Made:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    )
    config._attn_implementation = "eager"  # noqa: SLF001 - their door for attention kinds
    model = BertModel(config, add_pooling_layer=False).eval()
    return model, (torch.ones(1, 384, dtype=torch.int64),)


_YOLO = {
    "yolo11": "nsmlx", "yolo26": "nsmlx", "yolov8": "nsmlx", "yolov5": "s",
}  # fmt: skip


def _ultralytics() -> Iterator[Network]:
    def made(name: str, side_px: int) -> Made:
        tasks = importlib.import_module("ultralytics.nn.tasks")
        # As it is deployed: norms folded, and of two heads only the one that answers.
        model = tasks.DetectionModel(f"{name}.yaml", verbose=False).eval().fuse(verbose=False)
        return model, (_picture(side_px),)

    sizes = [(f"{name}{size}", 640) for name, all_of in _YOLO.items() for size in all_of]
    for name, side_px in (*sizes, ("yolov5s", 672)):
        key = f"{name}@{side_px}"
        yield Network(key, "ultralytics", partial(made, name, side_px), key, "real")


_DARKNET = {
    "yolov3": (288, 416, 608), "yolov3-tiny": (288, 416),
    "yolov4": (288, 320, 416, 512, 608), "yolov4-tiny": (288, 416),
}  # fmt: skip


def _darknet(folder: Path) -> Iterator[Network]:
    def made(name: str, side_px: int) -> Made:
        from jetlift.benchmarks.operations_darknet import network

        return network(folder / f"{name}.cfg"), (_picture(side_px),)

    for name, sizes in _DARKNET.items():
        for side_px in sizes:
            key = f"{name}@{side_px}"
            yield Network(key, "darknet", partial(made, name, side_px), key)


# Parts of the zoo, at their opt_shape.
_PARTS = {
    "dinov2-small": ("image",), "vit-b16": ("image",), "clip-vit-b32": ("image", "text"),
    "siglip-base": ("image", "text"), "whisper-tiny": ("encoder", "cross", "decoder"),
    "whisper-small": ("encoder", "decoder"), "bert-base": ("text",), "gpt2": ("decoder",),
    "qwen2.5-0.5b": ("decoder",), "yolox-nano": ("image",), "yolox-tiny": ("image",),
    "yolox-s": ("image",), "yolox-m": ("image",), "yolox-l": ("image",), "yolox-x": ("image",),
    "owlv2-base": ("image", "text"), "grounding-dino-tiny": ("image", "text"),
    "detic-r50": ("proposals",), "nerf": ("field",),
    "sd15": ("text_encoder", "unet", "vae_decoder"),
}  # fmt: skip


# 10^9 multiply-adds that PyTorch runs and an engine folds when it is built (ops.py, rule C2).
_FOLDED = {
    "siglip-base/image": (
        -768 * 768 / 1e9,
        "the pooling head's query depends on no input and is folded (768 x 768 in PyTorch).",
    ),
}


def _recipes() -> Iterator[Network]:
    def made(name: str, part: str) -> Made:
        import torch

        from jetlift.export.recipes import recipe

        found = recipe(name)
        # Ones are tokens, places and masks of every model.
        arguments = tuple(
            torch.ones(
                spec.opt_shape or [axis for axis in spec.shape if isinstance(axis, int)],
                dtype=getattr(torch, spec.dtype),
            )
            for spec in found.parts[part].inputs
        )
        return found.load("random").modules[part].eval(), arguments

    for name, parts in _PARTS.items():
        for part in parts:
            key = f"{name}/{part}"
            left_out, why = _FOLDED.get(key, (0.0, ""))
            make = partial(made, name, part)
            yield Network(
                key, "jetlift", make, tensors="fake", counter_left_out_gmac=left_out, why=why
            )
