"""What `bundle.json` says: the portable description of a model after export.

Shapes are in elements, sizes in bytes, operations count a multiply-add as two (MAC x 2).
The published schema is docs/schemas/bundle.schema.json, generated from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jetlift.runtime.jsonform import field
from jetlift.runtime.task_forms import (
    NAME,
    RELATIVE_PATH,
    Classification,
    Detection,
    Diffusion,
    OpenVocabulary,
    PosePreprocess,
    Radiance,
    RunsPer,
    UnClip,
    ZeroShot,
)

__all__ = ["NAME", "RELATIVE_PATH", "Classification", "Detection", "ZeroShot"]

SCHEMA_VERSION = 1

Precision = Literal["fp32", "fp16", "bf16", "int8", "int8w", "int4w"]
Rest = Literal["fp32", "fp16", "bf16"]
DType = Literal["float32", "float16", "int64", "int32", "int8", "uint8", "bool"]

SHA256 = r"[0-9a-f]{64}"
MODEL = r"[a-z0-9][a-z0-9_.-]*"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a part."""

    name: str = field(doc="Name of the tensor in the graph")
    dtype: DType = field(doc="Element type")
    shape: tuple[int | str, ...] = field(doc="A number per fixed axis, a name per dynamic axis")
    min_shape: tuple[int, ...] | None = field(
        doc="Smallest shape to build for (inputs only)", default=None
    )
    opt_shape: tuple[int, ...] | None = field(
        doc="Shape to optimise for and to measure at (inputs only)", default=None
    )
    max_shape: tuple[int, ...] | None = field(
        doc="Largest shape to build for (inputs only)", default=None
    )


@dataclass(frozen=True)
class FrameInput:
    """The preprocessing is in the graph: its input takes whole frames, uint8 NHWC in BGR order."""

    size_wh: tuple[int, ...] = field(doc="Width and height of the frames in pixels")
    checked_frames: int = field(
        doc="Number of frames, real and drawn, whose pixels were compared with those of the "
        "preprocessing outside the graph"
    )
    largest_difference: float = field(
        doc="Largest difference found in what the part's own graph gets, in levels of 255"
    )


@dataclass(frozen=True)
class ImagePreprocess:
    """From a BGR uint8 picture to the float32 NCHW input of a part."""

    kind: Literal["image"] = field(doc="Says that this part takes pictures")
    input: str = field(doc="Name of the graph input that takes the picture")
    size_wh: tuple[int, ...] = field(doc="Width and height of the input in pixels")
    fit: Literal["crop", "stretch", "letterbox", "pad_square", "canvas"] = field(
        doc="crop: shortest edge to resize_short, then the centre; stretch: both axes at will; "
        "letterbox: whole picture, padded below and right; pad_square: padded so to a square "
        "first, then resized; canvas: shortest edge to resize_short, or less where it must fit, at "
        "the top left of a canvas that is 0 elsewhere"
    )
    resize_short: int | None = field(doc="Shortest edge in pixels, of crop and canvas")
    resample: Literal[
        "bicubic_antialias", "bilinear_antialias", "linear_exact", "gaussian_linear"
    ] = field(
        doc="Resampling filter; the antialias kinds equal Pillow's, linear_exact is OpenCV's, "
        "gaussian_linear (of pad_square alone) is scikit-image's, in floats"
    )
    colour: Literal["rgb", "bgr"] = field(doc="Channel order the model was trained with")
    scale: float = field(doc="Factor on the 0..255 values before the mean is taken off")
    mean: tuple[float, ...] = field(doc="Mean per channel, in the model's channel order")
    std: tuple[float, ...] = field(doc="Standard deviation per channel")
    pad_value: int = field(doc="Grey level of letterbox padding", default=114)
    inside: FrameInput | None = field(
        doc="Set where all of this is done in the graph; null where it is done before it",
        default=None,
    )


@dataclass(frozen=True)
class TextPreprocess:
    """From a string to the token ids of a part."""

    kind: Literal["text"] = field(doc="Says that this part takes text")
    tokenizer: str = field(doc="Path of tokenizer.json in the bundle", pattern=RELATIVE_PATH)
    max_tokens: int = field(doc="Longest sequence, special tokens included")
    ids: str = field(doc="Graph input for token ids")
    mask: str | None = field(
        doc="Graph input for the attention mask; null where the graph needs none", default=None
    )
    type_ids: str | None = field(doc="Graph input for token type ids", default=None)
    pad_to: int | None = field(
        doc="Length every text is padded to, for a graph that reads padding as well; null pads a "
        "batch to its longest text",
        default=None,
    )
    pad_id: int | None = field(
        doc="Token id of padding; null takes the one that the tokenizer names", default=None
    )


@dataclass(frozen=True)
class AudioPreprocess:
    """From a mono waveform to the log-mel input of a part."""

    kind: Literal["audio"] = field(doc="Says that this part takes sound")
    input: str = field(doc="Name of the graph input that takes the log-mel picture")
    sample_rate_hz: int = field(doc="Sampling rate of the waveform")
    window_samples: int = field(doc="Samples per window; shorter sound is padded with silence")
    n_fft: int = field(doc="Samples per Fourier transform")
    hop_length: int = field(doc="Samples from one transform to the next")
    filters: str = field(
        doc="Path of the mel filter bank in the bundle, .npy [mel bins, n_fft / 2 + 1]",
        pattern=RELATIVE_PATH,
    )


@dataclass(frozen=True)
class SampleSet:
    """Which samples a figure comes from, so that it can be made again."""

    count: int = field(doc="Number of samples")
    sha256: str = field(
        doc="SHA-256 over the samples' own SHA-256 digests, in order", pattern=SHA256
    )
    note: str = field(doc="Where they come from and how they were chosen")


@dataclass(frozen=True)
class Fidelity:
    """How near a variant is to fp32 on samples that calibration never saw."""

    figures: dict[str, float] = field(
        doc="Metric to value, as in `embedding.cosine_min`; the reference is this bundle's fp32"
    )
    budget: str = field(doc="The budget it was held to, as in `embedding.cosine_min>=0.99`")
    met: bool = field(doc="Whether every line of the budget is met")
    samples: SampleSet = field(doc="The samples the figures come from")
    computed_by: str = field(doc="Engine library, version and arithmetic that made the figures")


@dataclass(frozen=True)
class Cost:
    """What one run of a graph at its opt_shape asks of the hardware."""

    operations: float = field(doc="All operations, MAC x 2")
    operations_by_precision: dict[str, float] = field(
        doc="Operations of GEMM and convolution per precision their inputs have in the graph"
    )
    weight_bytes: float = field(doc="Bytes of constants as stored in the graph")
    activation_bytes: float = field(
        doc="Bytes of every intermediate tensor once, without fusion or reuse"
    )
    uncounted: tuple[str, ...] = field(
        doc="Nodes that no rule counts, with the reason; the totals are without them", default=()
    )
    weighted_operations_by_precision: dict[str, float] | None = field(
        doc="The same for those with a weight alone, without products of two activations; null "
        "where it was not counted",
        default=None,
    )
    weight_elements_by_precision: dict[str, float] | None = field(
        doc="Elements of the weights of GEMM and convolution per precision they are stored in, "
        "once per node that reads them; null where they were not counted",
        default=None,
    )
    read_bytes: float | None = field(
        doc="Bytes that all nodes read, activations and weights, each node on its own, without "
        "fusion; null where they were not counted",
        default=None,
    )
    written_bytes: float | None = field(
        doc="Bytes that all nodes write, without fusion; null where they were not counted",
        default=None,
    )
    fused_read_bytes: float | None = field(
        doc="Bytes read where chains of elementwise work and norms run with the node they follow; "
        "null where they were not counted",
        default=None,
    )
    fused_written_bytes: float | None = field(
        doc="Bytes written with the same fusion; null where they were not counted", default=None
    )


@dataclass(frozen=True)
class Block:
    """Nodes that the precision search narrows or widens together."""

    name: str = field(doc="Name of the activation they read, or of the node")
    nodes: tuple[str, ...] = field(doc="Names of the nodes")
    operations: float = field(doc="Their operations, MAC x 2")
    precision: Precision = field(doc="What they run in")
    sensitivity: float | None = field(
        doc="How much nearer to fp32 the outputs come with this block alone kept wide, as a share "
        "of the whole loss; null where it was not measured"
    )


@dataclass(frozen=True)
class CurvePoint:
    """One assignment that the search measured on the search samples."""

    int8_share: float = field(doc="Share of the weighted operations in INT8")
    figures: dict[str, float] = field(doc="Metric to value on the search samples")


@dataclass(frozen=True)
class Quantisation:
    """How the INT8 of a variant was made, and where it was not."""

    treatment: dict[str, str] = field(
        doc="How blocks were treated, in words: `every block`, then those treated otherwise"
    )
    calibrators: dict[str, int] = field(doc="Number of activations per calibrator that won")
    int8_share: float = field(
        doc="Operations of weighted GEMM and convolution in INT8, of all of them"
    )
    weights_share: dict[str, float] = field(
        doc="Share of the elements of quantisable weights, per precision"
    )
    blocks: tuple[Block, ...] = field(doc="Every block, in the graph's order")
    curve: tuple[CurvePoint, ...] = field(doc="What the search saw, by falling INT8 share")
    search: SampleSet | None = field(doc="The samples of the search; null where none was needed")
    evaluations: int = field(doc="Number of assignments that were measured")
    finished: bool = field(doc="Whether the search ran to its end; false where time bounded it")


@dataclass(frozen=True)
class Variant:
    """One typed ONNX graph of a part."""

    precision: Precision = field(doc="What weighted GEMM and convolution run in")
    rest: Rest = field(doc="What everything else runs in")
    file: str = field(doc="Path of the ONNX file in the bundle", pattern=RELATIVE_PATH)
    data_files: tuple[str, ...] = field(
        doc="External data beside it (graphs over 2 GB)", pattern=RELATIVE_PATH
    )
    cost: Cost = field(doc="What one run costs")
    kept_wide: tuple[str, ...] = field(doc="Nodes kept wider than the precision, with the reason")
    fidelity: Fidelity | None = field(doc="Null where it was not measured")
    quantisation: Quantisation | None = field(
        doc="How INT8 was made; null for other variants", default=None
    )


@dataclass(frozen=True)
class Part:
    """One graph of a model."""

    inputs: tuple[TensorSpec, ...] = field(doc="Graph inputs, in order")
    outputs: tuple[TensorSpec, ...] = field(doc="Graph outputs, in order")
    parameters: int = field(doc="Number of trained parameters")
    preprocess: ImagePreprocess | TextPreprocess | AudioPreprocess | PosePreprocess | None = field(
        doc="How raw input becomes graph input; null for a graph of one's own"
    )
    variants: dict[str, Variant] = field(
        doc="Variants by name, as in fp32, fp16, int8; engine files carry the name", keys=NAME
    )
    patch_grid_hw: tuple[int, ...] | None = field(
        doc="Rows and columns of the patch tokens, where there are any", default=None
    )
    detection: Detection | None = field(
        doc="How the raw output becomes boxes; null where it is no detector", default=None
    )
    classification: Classification | None = field(
        doc="How the raw output becomes labels; null where it is no classifier", default=None
    )
    runs_per: RunsPer = field(doc="How often the part runs", default="input")


@dataclass(frozen=True)
class Weights:
    """Where the weights come from."""

    source: str = field(doc="Hub id, package with version, or file name")
    licence: str = field(doc="Licence as the source states it")
    sha256: str | None = field(doc="Hash of the weights file; null for random", pattern=SHA256)
    note: str = field(doc="What a reader of the figures must know of these weights")
    random: bool = field(doc="True where the weights are random and figures are structure only")


@dataclass(frozen=True)
class FileEntry:
    """One file of the bundle."""

    path: str = field(doc="Path in the bundle", pattern=RELATIVE_PATH)
    sha256: str = field(doc="SHA-256 of the content", pattern=SHA256)
    size_bytes: int = field(doc="Size in bytes")


@dataclass(frozen=True)
class Manifest:
    """The whole of bundle.json."""

    schema_version: int = field(doc="Version of this schema")
    jetlift: str = field(doc="Version of jetlift that wrote the bundle")
    model: str = field(doc="Recipe name, or the name of one's own graph", pattern=MODEL)
    tasks: tuple[str, ...] = field(doc="What `jetlift run` can do with it, the default first")
    weights: Weights = field(doc="Where the weights come from")
    parts: dict[str, Part] = field(doc="Parts by name; engine files carry the name", keys=NAME)
    calibration: dict[str, SampleSet] = field(
        doc="Per part, the samples that chose INT8 scales; empty without INT8", keys=NAME
    )
    tools: dict[str, str] = field(doc="Versions of the tools that made the bundle")
    files: tuple[FileEntry, ...] = field(doc="Every file outside engines/ but bundle.json itself")
    zero_shot: ZeroShot | None = field(
        doc="How pictures are compared with words; null where the model cannot", default=None
    )
    open_vocabulary: OpenVocabulary | None = field(
        doc="How pictures and words become boxes; null where it is no such detector", default=None
    )
    diffusion: Diffusion | None = field(
        doc="How pictures are made by latent diffusion; null where they are not", default=None
    )
    unclip: UnClip | None = field(
        doc="How pictures are made from CLIP embeddings; null where they are not", default=None
    )
    radiance: Radiance | None = field(
        doc="How views are rendered; null where it is no radiance field", default=None
    )
