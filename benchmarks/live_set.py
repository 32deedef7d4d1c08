"""How much memory a graph's intermediate tensors take at the same time, at most.

Rules:
    V1  Nodes run in the graph's order, one at a time; a tensor lives from the node that makes it to
        the last one that reads it, an output of the graph to the end.
    V2  Inputs, weights and what an engine folds into constants are not counted.
    V3  No fusion and no work in place, both of which engines do: they take less. Scratch memory of
        the kernels is not in it: some take more. Where the engine library tells its own figure,
        that stands instead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jetlift.runtime.errors import MissingPackageError, UsageError
from jetlift.runtime.figure import Figure

if TYPE_CHECKING:
    from jetlift.benchmarks.measure import VariantAnswer
    from jetlift.engines.shapes import BoundGraph
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.manifest import Variant
    from jetlift.runtime.record import Memory

GRAPH_SAYS = "the graph, node after node, without fusion"


def with_graph(memory: Memory, bundle: Bundle, variant: Variant, answer: VariantAnswer) -> Memory:
    """Memory with what the graph tells: weights, and activations where no library did.

    Args:
        memory: What the measuring process found.
        bundle: The bundle.
        variant: The variant that was measured.
        answer: What it was fed.
    """
    parts = replace(memory.parts, weight_bytes=Figure(variant.cost.weight_bytes))
    if parts.activation_bytes.value is None:
        live = _live(bundle, variant, answer)
        how = GRAPH_SAYS if live.value is not None else ""
        parts = replace(parts, activation_bytes=live, activations_how=how)
    return replace(memory, parts=parts)


def _live(bundle: Bundle, variant: Variant, answer: VariantAnswer) -> Figure:
    from jetlift.engines.shapes import bind, onnx_library

    shapes = {item.name: item.shape for item in answer.inputs}
    try:
        model = onnx_library().load(bundle.path(variant.file), load_external_data=False)
        graph = bind(model, shapes)
    except MissingPackageError:
        return Figure.missing("onnx, which reads the graph, is not installed")
    except UsageError as error:
        return Figure.missing(f"the graph could not be followed: {error.got}")
    return Figure(peak_live_bytes(graph))


def peak_live_bytes(graph: BoundGraph) -> float:
    """Most bytes of intermediate tensors at one time (rules V1, V2)."""
    last: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        last.update(dict.fromkeys(node.input, index))
    last.update(dict.fromkeys(graph.outputs, len(graph.nodes)))
    sizes: dict[str, float] = {}
    most = 0.0
    for index, node in enumerate(graph.nodes):
        for name in node.output:
            if name and name not in graph.constants and name in graph.tensors:
                sizes[name] = graph.tensors[name].size_bytes
        most = max(most, sum(sizes.values()))
        for name in [name for name in sizes if last.get(name, index) <= index]:
            del sizes[name]
    return most
