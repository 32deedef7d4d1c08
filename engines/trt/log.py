"""The builder's log, read while it is written.

Rules:
    L1  What the library refuses becomes one sentence that names the node.
    L2  Its list of layers becomes the receipt where its inspector cannot be asked.
    L3  Between the library's lines stand messages of our own child: a control character, then JSON.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jetlift.engines.receipt import Layer
from jetlift.engines.trt.inspector import nodes_of, precision_of, rank_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MARK = "\x1e"
_LAYER = re.compile(r"\s*Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: (?P<rest>.*)")
_DATATYPE = re.compile(r"Datatype: ([^,}]+)")
_LISTS = re.compile(r"\], (?=(?:Constants|Outputs): )")
MIXED, _HALVES = "mixed", {"fp16", "bf16"}
_MEMORY = re.compile(r"(?:Total (Weights|Activation)|Max (Scratch)) Memory: (\d+) bytes")
_REFUSED = re.compile(
    r"In node -?\d+ with name: (?P<node>.*?) and operator: (?P<kind>\S+) "
    r"\(.*?\): (?P<code>\w+): (?P<why>.*)"
)
_USAGE = re.compile(r"API Usage Error \((?P<why>.*?)(?:\. In \w+ at \S+)?\)\s*$")
_REASONS = {
    "UNSUPPORTED_NODE": "this operator, or this form of it, is not supported",
    "INVALID_NODE": "there is no such operator, or its inputs are not what it takes",
}
# What TensorRT, C++ and Python say where memory runs out: ultralytics#22271, TensorRT-LLM#493.
_MEMORY_SIGN = re.compile(
    r"out ?of ?memory|bad_alloc|MemoryError|cannot allocate memory|insufficient memory"
    r"|Device memory is insufficient",
    re.IGNORECASE,
)
_WORKSPACE_SIGN = re.compile(r"within workspace limit|increas\w+ the (?:allowed )?workspace")
# NVIDIA/TensorRT#2318, jetson_dla_tutorial#3, tensorflow-onnx#1632: three wordings of one thing.
_FALLBACK = re.compile(
    r"but layer (?P<a>.+?) is not (?:supported|running) on DLA"
    r"|Layer '(?P<b>.+?)' \(\w+\): Unsupported on DLA"
    r"|Switching (?P<c>.+?) device type to GPU"
)
_LAST_LINES = 12
_KEPT = 50


def _silent(_doing: str, _share: float) -> None:
    """Tell nobody."""


@dataclass
class BuildLog:
    """What is worth keeping of the builder's log.

    Attributes:
        tell: Called with the phase of the build and the share of it that is done.
        layers: The engine's layers, as far as the log lists them (rule L2).
        lines: The lines they were read from.
        memory: Bytes the library says the engine needs, by use.
        refusals: What it says as an error.
        memory_signs: Lines that speak of memory running out.
        workspace_sign: The line that asks for more workspace; empty where there is none.
        dla_fallback: Layers that a DLA leaves to the GPU.
        told: What the child tells of itself (rule L3).
        last: The last lines for people.
    """

    tell: Callable[[str, float], None] = _silent
    layers: list[Layer] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    memory_signs: list[str] = field(default_factory=list)
    workspace_sign: str = ""
    dla_fallback: list[str] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    last: list[str] = field(default_factory=list)

    def take(self, lines: Iterable[str]) -> None:
        """Read lines until there are no more."""
        for line in lines:
            if line.startswith(MARK) and self._take_message(line[1:]):
                continue
            if layer := layer_of(line):
                self.layers.append(layer)
                self.lines.append(line.strip())
            elif found := _MEMORY.search(line):
                use = (found[1] or found[2]).lower()
                self.memory[use] = max(self.memory.get(use, 0), int(found[3]))
            else:
                self._take_words(line)
            if line.strip() and not line.startswith(("[X]", "[V]")):
                self.last = [*self.last[1 - _LAST_LINES :], line.rstrip()]

    def _take_message(self, text: str) -> bool:
        """Whether it was a message of the child; half of one, cut by a signal, is none."""
        try:
            message = json.loads(text)
        except ValueError:
            return False
        if not isinstance(message, dict):
            return False
        if "phase" in message:
            self.tell(str(message["phase"]), float(message["share"]))
        self.told |= message
        return True

    def _take_words(self, line: str) -> None:
        if line.startswith(("[E]", "[!]")):
            self.refusals.append(line[3:].strip())
        if _WORKSPACE_SIGN.search(line):
            self.workspace_sign = self.workspace_sign or line.strip()
        elif _MEMORY_SIGN.search(line) and len(self.memory_signs) < _KEPT:
            self.memory_signs.append(line.strip())
        if found := _FALLBACK.search(line):
            name = found["a"] or found["b"] or found["c"]
            if name not in self.dla_fallback:
                self.dla_fallback.append(name)


def layer_of(line: str) -> Layer | None:
    """Read one line of the builder's list of layers, or None where it is not one.

    A layer that reads FP32 and a half holds the Cast between them, as with a cache that comes from
    outside: the line does not say in which of the two it multiplies, so it is of neither.
    """
    found = _LAYER.match(line)
    if found is None:
        return None
    read, *others = _LISTS.split(found["rest"], maxsplit=1)
    kinds = [precision_of(kind) for kind in _DATATYPE.findall(read)]
    others_kinds = map(precision_of, _DATATYPE.findall(" ".join(others)))
    precision = next(filter(None, (*kinds, *others_kinds)), None)
    if precision is None:
        return None
    if precision == "fp32" and _HALVES & set(kinds):
        precision = MIXED
    nodes = nodes_of(line.rpartition("Metadata: ")[2])
    return Layer(nodes, precision, rank_of(found["kind"], found["name"]))


def refusal(log: BuildLog, graph: str, library: str) -> str:
    """What the library refuses, in one sentence (rule L1); empty where it named no node.

    Args:
        log: The log of a build that failed.
        graph: Name of the graph's file.
        library: As people know it.
    """
    why = usage(log)
    for line in log.refusals:
        if found := _REFUSED.search(line):
            reason = why or _REASONS.get(found["code"], found["why"].strip())
            where = f"node {found['node']} ({found['kind']}) of {graph}"
            return f"{library} does not take {where}: {reason}"
    return ""


def usage(log: BuildLog) -> str:
    """What the library says of wrong use of it; empty where it says nothing."""
    found = filter(None, map(_USAGE.search, log.refusals))
    return next((item["why"] for item in found), "")


def message(content: Mapping[str, Any]) -> str:
    """One message of the child to its parent (rule L3)."""
    return MARK + json.dumps(content)
