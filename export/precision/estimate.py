"""How much time INT8 is likely to save per node: a roofline, to tell equal operations apart.

A node takes the longer of its arithmetic at the board's dense peak and its traffic at the memory's
bandwidth (Williams, Waterman, Patterson: Roofline, CACM 2009). No fusion and no cache are known
here, so these are figures to rank by and never to report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jetlift.engines.ops import NodeCost
    from jetlift.jetson.facts import Device

# The board with the least of everything; ranks hardly change from board to board.
RANKED_FOR = "orin-nano-8gb"
_FLOAT_BYTES, _INT8_BYTES, _WIDE_BYTES = 4, 1, 2


def saved_by_int8(rows: Iterable[NodeCost], board: Device) -> dict[str, float]:
    """Estimated seconds that INT8 saves of each weighted GEMM and convolution, by node.

    Args:
        rows: Nodes of an fp32 graph, with their traffic in bytes.
        board: Whose peaks and bandwidth count; wide blocks run in FP16 there.
    """
    narrow_peak, wide_peak = board.dense.int8_tops, board.dense.fp16_tflops
    if narrow_peak is None or wide_peak is None:
        return {}
    bytes_per_s = board.memory_bandwidth_gbps * 1e9

    def seconds(row: NodeCost, peak_tops: float, element_bytes: int) -> float:
        elements = (row.input_bytes + row.weight_bytes + row.output_bytes) / _FLOAT_BYTES
        return max(row.operations / (peak_tops * 1e12), elements * element_bytes / bytes_per_s)

    return {
        row.name: seconds(row, wide_peak, _WIDE_BYTES) - seconds(row, narrow_peak, _INT8_BYTES)
        for row in rows
        if row.weighted
    }
