"""A decoder in a few kilobytes: each token is followed by the one that a table names.

The graph is a real one that reads its cache and its positions, though what they hold cancels out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jetlift.engines import ops
from jetlift.export.recipes.gpt_parts import PART, Cache, assets, parts
from jetlift.export.recipes.random_tokenizers import byte_level
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import MANIFEST_NAME, Bundle, list_files
from jetlift.runtime.manifest import SCHEMA_VERSION, Manifest, Part, TensorSpec, Variant, Weights
from jetlift.runtime.tasks.decoder import ChatTemplate

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY, END = 300, 299
CACHE = Cache(layers=1, groups=1, size=1, positions=24)
CHAT = ChatTemplate(turn="<{system}>{user}:", system="be brief")


def following(text: str) -> np.ndarray:
    """A table in which each byte of a text is followed by the next, and the last by the end."""
    from jetlift.export.recipes.clip_bpe import byte_symbols

    ids = {symbol: number for number, symbol in enumerate(byte_symbols())}
    table = np.zeros((VOCABULARY, VOCABULARY), np.float32)
    codes = [ids[_symbol(byte)] for byte in text.encode()]
    for first, second in zip(codes, [*codes[1:], END], strict=True):
        table[first] = 0
        table[first, second] = 4.0
    return table


def decoder_bundle(folder: Path, text: str, *, chat: bool = False, nan: bool = False) -> Bundle:
    """Make a bundle whose decoder says a text, byte by byte, and open it.

    Args:
        folder: Where to.
        text: What follows from its own first byte; no byte twice.
        chat: Whether it has turns.
        nan: Whether its logits are NaN.
    """
    (folder / "assets").mkdir(parents=True)
    tokenizer = byte_level(VOCABULARY, {"<end>": END})
    for path, content in assets(tokenizer, CACHE, (END,), CHAT if chat else None).items():
        assert isinstance(content, bytes)
        (folder / path).write_bytes(content)
    table = following(text)
    model, recipe = _graph(table * np.nan if nan else table), parts(CACHE)[PART]
    file = f"{PART}.fp32.onnx"
    onnx.save(model, folder / file)
    shapes = {spec.name: spec.opt_shape for spec in recipe.inputs if spec.opt_shape}
    variant = Variant("fp32", "fp32", file, (), ops.count(model, shapes).cost, (), None)
    outputs = (
        TensorSpec("logits", "float32", (1, VOCABULARY)),
        TensorSpec("new_key_0", "float32", (1, 1, "tokens", 1)),
        TensorSpec("new_value_0", "float32", (1, 1, "tokens", 1)),
    )
    part = Part(recipe.inputs, outputs, table.size, recipe.preprocess, {"fp32": variant})
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        jetlift="0.1.0",
        model="decoder",
        tasks=("generate",),
        weights=Weights("drawn", "Apache-2.0", None, "made for tests", random=False),
        parts={PART: part},
        calibration={},
        tools={"onnx": onnx.__version__},
        files=list_files(folder),
    )
    (folder / MANIFEST_NAME).write_text(jsonform.dumps(manifest), encoding="utf-8")
    return Bundle.open(folder)


def _graph(table: np.ndarray) -> onnx.ModelProto:
    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        return helper.make_node(kind, inputs, [output], name=output, **attributes)

    def constant(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.asarray(value), name)

    nodes = [
        node("Gather", ["token", "last"], "newest", axis=1),
        node("Gather", ["table", "newest"], "plain", axis=0),
        node("Cast", ["token"], "number", to=TensorProto.FLOAT),
        node("Unsqueeze", ["number", "axes"], "new_key_0"),
        node("Identity", ["new_key_0"], "new_value_0"),
        # The cache is read, and what it holds cancels out: a NaN in it would not.
        node("ReduceSum", ["past_key_0"], "keys", keepdims=0),
        node("ReduceSum", ["past_value_0"], "values", keepdims=0),
        node("Sub", ["keys", "values"], "nothing"),
        node("Cast", ["position"], "place", to=TensorProto.FLOAT),
        node("ReduceMin", ["place"], "first", keepdims=0),
        node("Mul", ["first", "nothing"], "still_nothing"),
        node("Add", ["plain", "still_nothing"], "logits"),
    ]
    constants = [
        constant("table", table),
        constant("last", np.int64(-1)),
        constant("axes", np.array([1, 3], np.int64)),
    ]
    past = (1, 1, CACHE.positions, 1)
    inputs = [
        helper.make_tensor_value_info("token", TensorProto.INT64, [1, "tokens"]),
        helper.make_tensor_value_info("position", TensorProto.INT64, [1, "tokens"]),
        helper.make_tensor_value_info("past_key_0", TensorProto.FLOAT, past),
        helper.make_tensor_value_info("past_value_0", TensorProto.FLOAT, past),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, VOCABULARY]),
        helper.make_tensor_value_info("new_key_0", TensorProto.FLOAT, [1, 1, "tokens", 1]),
        helper.make_tensor_value_info("new_value_0", TensorProto.FLOAT, [1, 1, "tokens", 1]),
    ]
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _symbol(byte: int) -> str:
    """The letter that stands for a byte in byte-level vocabularies."""
    from jetlift.export.recipes.clip_bpe import byte_symbols

    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in visible:
        return chr(byte)
    hidden = [code for code in range(256) if code not in visible]
    return byte_symbols()[len(visible) + hidden.index(byte)]
