"""What a record says of an engine's time, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from jetlift.runtime.figure import Figure  # noqa: TC001 - jsonform reads the hints at run time
from jetlift.runtime.jsonform import field


@dataclass(frozen=True)
class LayerTime:
    """One layer of an engine, in a run of its own that counted layers."""

    name: str = field(doc="As the engine library calls it")
    kind: str = field(doc="Kind of layer and kernel, as the library tells")
    nodes: tuple[str, ...] = field(doc="ONNX nodes in it, as far as the library tells")
    time_ms: float = field(doc="Median over the runs that counted layers")
    operations: Figure = field(doc="Operations of those nodes at the shapes fed")
