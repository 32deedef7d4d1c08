"""The cases: which models on which inputs, and who takes part.

Rules:
    B1  All contenders of a case get the same weights, the same inputs and as many threads; where a
        row has other weights or another network, its note says so, and it is compared with none.
    B2  `jetlift-int8` and `jetlift-fp32` are jetlift's rows; the reference is a row in FP32 that is
        not jetlift's, so that jetlift is held to it like everybody.
    B3  Where this machine has an NVIDIA GPU, trtexec and torch-tensorrt take part as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jetlift.benchmarks.peers.contender import Way

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from jetlift.benchmarks.peers.agreement import Kind
    from jetlift.runtime.bundle import Bundle

INT8, FP32 = "jetlift-int8", "jetlift-fp32"
_JETLIFT = ("jetlift", "openvino", "numpy")
_TORCH = ("torch", "transformers", "numpy")
_ORT = ("onnxruntime", "numpy")
_OV = ("openvino", "numpy")


@dataclass(frozen=True)
class Contender:
    """One way in a case.

    Attributes:
        name: Its name in the case.
        title: Its name for people.
        precision: What it computes in, in words.
        way: How.
        note: What must be known of it.
        compared: Whether its outputs are compared with the reference's.
    """

    name: str
    title: str
    precision: str
    way: Way
    note: str = ""
    compared: bool = True


@dataclass(frozen=True)
class Case:
    """One model on one kind of input.

    Attributes:
        name: Its name on the command line.
        title: What is computed.
        words: What all ways have in common.
        inputs: File of the inputs, in the case's folder.
        contenders: Who takes part, in order of turns.
        reference: Whose outputs the others are compared with.
        kind: How they are compared.
        folder: Name of the folder that `prepare` makes.
    """

    name: str
    title: str
    words: str
    inputs: str
    contenders: tuple[Contender, ...]
    reference: str
    kind: Kind
    folder: str


@dataclass(frozen=True)
class Place:
    """What a case is made from.

    Attributes:
        bundle: The bundle; None for a case that needs none.
        folder: What `prepare` made.
        gpu: Whether an NVIDIA GPU takes part (rule B3).
    """

    bundle: Bundle | None
    folder: Path
    gpu: bool = False
    arguments: Mapping[str, str] = field(default_factory=dict)

    def graph(self, precision: str, part: str | None = None) -> str:
        """A variant's ONNX file."""
        if self.bundle is None:
            return ""
        name = self.bundle.part(part)[0]
        return str(self.bundle.path(self.bundle.variant(name, precision).file))

    @property
    def home(self) -> str:
        """The bundle's folder."""
        return "" if self.bundle is None else str(self.bundle.folder)


def _ours(module: str, place: Place, *precisions: str, **more: str) -> tuple[Contender, ...]:
    return tuple(
        Contender(
            f"jetlift-{precision}", f"jetlift {precision.upper()}", precision,
            Way(module, "jetlift", "jetlift", _JETLIFT,
                {"bundle": place.home, "precision": precision, **more}),
        )
        for precision in precisions
    )  # fmt: skip


def _engines(place: Place, part: str | None = None) -> tuple[Contender, ...]:
    """ONNX Runtime and OpenVINO by hand, on the bundle's own graphs."""
    fp32, int8 = place.graph("fp32", part), place.graph("int8", part)
    return (
        Contender(
            "onnxruntime", "ONNX Runtime", "fp32",
            Way("tensors", "onnxruntime", "jetlift", _ORT, {"graph": fp32}),
        ),
        Contender(
            "onnxruntime-int8", "ONNX Runtime, jetlift's Q/DQ graph", "int8",
            Way("tensors", "onnxruntime", "jetlift", _ORT, {"graph": int8}),
        ),
        Contender(
            "openvino", "OpenVINO by hand", "fp32",
            Way("tensors", "openvino", "jetlift", _OV, {"graph": fp32}),
        ),
        Contender(
            "openvino-int8", "OpenVINO by hand, jetlift's Q/DQ graph", "int8",
            Way("tensors", "openvino", "jetlift", _OV, {"graph": int8}),
        ),
    )  # fmt: skip


def _nncf(place: Place) -> Contender:
    return Contender(
        "openvino-nncf", "OpenVINO by hand, NNCF's INT8", "int8",
        Way("tensors", "openvino", "jetlift", _OV, {"graph": str(place.folder / "nncf.xml")}),
        "quantised by NNCF's defaults on the samples that jetlift's INT8 was calibrated on",
    )  # fmt: skip


def _gpu(place: Place, part: str | None = None) -> tuple[Contender, ...]:
    """Rule B3."""
    if not place.gpu:
        return ()
    return (
        Contender(
            "trtexec", "trtexec", "fp16",
            Way("tensors", "trtexec", "jetlift", (), {"graph": place.graph("fp16", part)}),
            "its own median latency, without copies", compared=False,
        ),
    )  # fmt: skip


def dinov2(place: Place) -> list[Case]:
    """Pixels to tokens."""
    folder = str(place.folder / "hf")

    def eager(name: str, title: str, precision: str = "fp32", **more: str) -> Contender:
        way = Way("networks", "dinov2", "torch", _TORCH, {"folder": folder, **more})
        return Contender(name, title, precision, way)

    gpu = (
        eager("torch-tensorrt", "torch-tensorrt", compile="torch_tensorrt", device="cuda"),
        eager("torch-cuda", "PyTorch eager on the GPU", device="cuda"),
    )
    contenders = (
        *_ours("tensors", place, "int8", "fp32"),
        eager("torch", "PyTorch eager"),
        eager("torch-compile", "torch.compile", compile="inductor"),
        eager("torch-bf16", "PyTorch eager, autocast", "bf16", arithmetic="bf16"),
        *_engines(place),
        _nncf(place),
        Contender(
            "optimum", "optimum-onnx", "fp32",
            Way("networks", "optimum", "optimum", ("optimum-onnx", *_ORT, *_TORCH),
                {"folder": folder}),
        ),
        *_gpu(place),
        *(gpu if place.gpu else ()),
    )  # fmt: skip
    words = "one picture of 224 x 224 pixels, prepared, to class and patch tokens"
    return [
        Case("dinov2", "DINOv2-small", words, "inputs.npz", contenders, "torch", "cosine", "dinov2")
    ]


def minilm(place: Place) -> list[Case]:
    """Text to embeddings."""
    plain, exported = str(place.folder / "hf"), str(place.folder / "optimum")
    st, file = "sentence-transformers", "onnx/model.onnx"

    def library(name: str, python: str, backend: str, title: str, folder: str) -> Contender:
        packages = ("sentence-transformers", *_TORCH, "onnxruntime", "openvino")
        arguments = {"folder": folder, "backend": backend, "file": file}
        return Contender(name, title, "fp32", Way("sentences", st, python, packages, arguments))

    contenders = (
        *_ours("sentences", place, "int8", "fp32"),
        library(st, "torch", "torch", "sentence-transformers", plain),
        library(f"{st}-onnx", "optimum", "onnx", "sentence-transformers, ONNX backend", exported),
        library(
            f"{st}-openvino", "optimum-intel", "openvino",
            "sentence-transformers, OpenVINO backend", plain,
        ),
        Contender(
            "optimum", "optimum-onnx, mean by hand", "fp32",
            Way("sentences", "optimum", "optimum", ("optimum-onnx", *_ORT, *_TORCH),
                {"folder": exported}),
        ),
    )  # fmt: skip
    one, batch = "one sentence to its embedding, tokens included", "16 sentences in one batch"
    return [
        Case("minilm", "MiniLM", one, "inputs.npz", contenders, st, "cosine", "minilm"),
        Case("minilm-batch", "MiniLM, batch", batch, "batch.npz", contenders, st, "cosine",
             "minilm"),
    ]  # fmt: skip


def whisper(place: Place) -> list[Case]:
    """Sound to words."""
    folder, ct2 = str(place.folder / "hf"), place.arguments.get("ctranslate2", "")

    def faster(compute: str, precision: str) -> Contender:
        way = Way(
            "speech", "faster-whisper", "faster-whisper", ("faster-whisper", "ctranslate2"),
            {"folder": ct2, "compute": compute},
        )  # fmt: skip
        return Contender(f"faster-whisper-{precision}", "faster-whisper", precision, way)

    suppress = {"folder": folder, "suppress": _never(place, "suppress"),
                "suppress_first": _never(place, "suppress_first")}  # fmt: skip
    contenders = (
        *_ours("speech", place, "int8", "fp32"),
        faster("int8", "int8"),
        faster("float32", "fp32"),
        Contender(
            "openai-whisper", "openai-whisper", "fp32",
            Way("speech", "openai-whisper", "torch", ("openai-whisper", "torch", "numpy"),
                {"file": str(place.folder / "openai.pt")}),
        ),
        Contender(
            "transformers", "transformers, eager", "fp32",
            Way("speech", "transformers", "torch", _TORCH, suppress),
            "one window of 30 s, its time stamps left out",
        ),
    )  # fmt: skip
    alike = "likeliest words with time stamps, samples to text, nothing tried twice"
    made = "3 synthetic utterances one after the other"
    return [
        Case("whisper", "Whisper tiny.en", f"the sound given: {alike}", "inputs.npz", contenders,
             "openai-whisper", "words", "whisper"),
        Case("whisper-spoken", "Whisper tiny.en, synthetic speech", f"{made}: {alike}",
             "spoken.npz", contenders, "openai-whisper", "words", "whisper"),
    ]  # fmt: skip


def _never(place: Place, name: str) -> list[int]:
    from jetlift.runtime.tasks.greedy import GENERATION, GenerationFacts

    if place.bundle is None:
        return []
    return list(getattr(GenerationFacts.read(place.bundle.path(GENERATION)), name))


def yolox(place: Place) -> list[Case]:
    """Pixels to raw boxes, and pictures to boxes."""
    graph = {"graph": place.graph("fp32")}
    engines = (
        *_ours("tensors", place, "int8", "fp32"),
        *_engines(place),
        _nncf(place),
        Contender(
            "ailia", "ailia SDK", "fp32", Way("tensors", "ailia", "ailia", ("ailia",), graph),
            "it wants a licence file, which it fetches from its vendor",
        ),
        Contender(
            "ultralytics-onnx", "ultralytics' AutoBackend on the same graph", "fp32",
            Way("tensors", "ultralytics-onnx", "ultralytics", ("ultralytics", *_ORT), graph),
        ),
        *_gpu(place),
    )  # fmt: skip
    other = Contender(
        "ultralytics", "ultralytics predict, YOLO11n", "fp32",
        Way("pictures", "ultralytics", "ultralytics", ("ultralytics", "torch"),
            {"model": "yolo11n.yaml", "size": 416}),
        "another network of 2.6 M parameters (YOLOX-nano has 0.9 M), random weights",
        compared=False,
    )  # fmt: skip
    whole = (*_ours("pictures", place, "int8", "fp32"), other)
    return [
        Case("yolox", "YOLOX-nano", "one picture of 416 x 416 pixels, prepared, to raw boxes",
             "inputs.npz", engines, "onnxruntime", "boxes", "yolox"),
        Case("yolox-task", "YOLOX-nano, whole task", "a photograph to boxes, resizing included",
             "pictures.npz", whole, FP32, "none", "yolox"),
    ]  # fmt: skip


def clip(place: Place) -> list[Case]:
    """Pixels to an embedding, random weights."""
    contenders = (
        *_ours("tensors", place, "int8", "fp32", part="image"),
        Contender(
            "open-clip", "open_clip, PyTorch eager", "fp32",
            Way("networks", "open-clip", "open-clip", ("open_clip_torch", "torch", "numpy"), {}),
            "its own random weights", compared=False,
        ),
        *_engines(place, "image"),
        *_gpu(place, "image"),
    )  # fmt: skip
    words = (
        "one picture of 224 x 224 pixels, prepared, to its embedding; random weights: speed alone"
    )
    return [Case("clip", "CLIP ViT-B/32, picture tower", words, "inputs.npz", contenders,
                 "onnxruntime", "none", "clip")]  # fmt: skip


def padim(_place: Place) -> list[Case]:
    """Features to a map of distances."""
    ours = Contender(
        FP32, "jetlift", "fp32", Way("anomalies", "jetlift", "jetlift", ("jetlift", "numpy"), {})
    )
    peer = Contender(
        "anomalib", "anomalib", "fp32",
        Way("anomalies", "anomalib", "anomalib", ("anomalib", "torch", "numpy"), {}),
        "without shrinkage of covariances, so its distances are others",
    )  # fmt: skip
    words = "features of one picture, 16 x 16 x 100, to its map; the backbone left out"
    return [Case("padim", "PaDiM", words, "inputs.npz", (ours, peer), "anomalib", "distances",
                 "padim")]  # fmt: skip


CASES: dict[str, Callable[[Place], list[Case]]] = {
    "dinov2": dinov2, "minilm": minilm, "whisper": whisper, "yolox": yolox, "clip": clip,
    "padim": padim,
}  # fmt: skip
WITHOUT_BUNDLE = frozenset({"padim"})
