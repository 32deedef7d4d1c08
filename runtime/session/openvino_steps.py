"""How OpenVINO is told to compute attention of one query, as a decoder's step has it.

OpenVINO generates code that fuses a whole attention into one loop over blocks of queries. For many
queries that is fast. For one it leaves the threads nothing to share, and the step of Whisper
tiny.en's decoder took 1.6 times as long as with plain products (5.5 and 3.4 ms, 2 threads,
2026.4.1).

Rules:
    T1  Where every softmax of a graph is over one query, known when the graph is compiled, no
        attention is fused. A compiled engine keeps what it was compiled to.
    T2  `SNIPPETS_MODE` is OpenVINO's own internal property (src/plugins/intel_cpu/src/config.cpp):
        a version without it refuses to compile, and says so.
"""

from __future__ import annotations

from typing import Any

_PLAIN = {"SNIPPETS_MODE": "DISABLE"}


def settings_for(model: Any) -> dict[str, Any]:  # noqa: ANN401 - the library ships no types
    """Properties that a model is to be compiled with beside the usual ones (rule T1)."""
    queries = [
        _queries(node) for node in model.get_ordered_ops() if node.get_type_name() == "Softmax"
    ]
    return dict(_PLAIN) if queries and all(count == 1 for count in queries) else {}


def _queries(softmax: Any) -> int | None:  # noqa: ANN401
    """Rows of scores that a softmax goes over per head; None where the model leaves it open."""
    shape = softmax.output(0).get_partial_shape()
    if shape.rank.is_dynamic or len(shape) < 3 or shape[len(shape) - 2].is_dynamic:
        return None
    return int(shape[len(shape) - 2].get_length())
