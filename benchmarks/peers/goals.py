"""What was to be reached, and whether it was.

Rules:
    Z1  A goal is met where the median ratio reaches it, jetlift's own row is right, and the
        bundle's int8 variants are within their recipe's fidelity budget; faster and wrong is
        missed.
    Z2  Where one of the two rows did not run, a goal is not measured, which is no miss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.benchmarks.peers.cases import INT8
from jetlift.benchmarks.peers.form import GoalResult
from jetlift.runtime.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.benchmarks.peers.form import CaseResult, ContenderResult

WITHIN, MISSES = "within its budget", "misses its budget"


@dataclass(frozen=True)
class Goal:
    """One goal: the peer takes at least so many times as long as jetlift's INT8."""

    case: str
    peer: str
    wanted: float
    words: str


GOALS = (
    Goal("dinov2", "torch", 3.0, "DINOv2-small INT8 at least 3 x PyTorch eager FP32"),
    Goal("dinov2", "onnxruntime", 2.0, "DINOv2-small INT8 at least 2 x ONNX Runtime FP32"),
    Goal("dinov2", "openvino-nncf", 1.0, "DINOv2-small INT8 no slower than OpenVINO INT8 by hand"),
    Goal("minilm", "sentence-transformers", 3.0, "MiniLM INT8 at least 3 x sentence-transformers"),
    Goal(
        "minilm-batch", "sentence-transformers", 3.0,
        "MiniLM INT8 at least 3 x sentence-transformers, 16 sentences",
    ),
    Goal("whisper", "faster-whisper-int8", 1.0, "Whisper INT8 no slower than faster-whisper int8"),
    Goal("whisper", "openai-whisper", 5.0, "Whisper INT8 at least 5 x openai-whisper FP32"),
    Goal(
        "whisper-spoken", "faster-whisper-int8", 1.0,
        "Whisper INT8 no slower than faster-whisper int8, synthetic speech",
    ),
    Goal(
        "whisper-spoken", "openai-whisper", 5.0,
        "Whisper INT8 at least 5 x openai-whisper FP32, synthetic speech",
    ),
)  # fmt: skip


def judge(cases: Sequence[CaseResult]) -> tuple[GoalResult, ...]:
    """Judge the goals of the cases that are there (rules Z1 and Z2)."""
    by_name = {case.name: case for case in cases}
    return tuple(_judged(goal, by_name[goal.case]) for goal in GOALS if goal.case in by_name)


def _judged(goal: Goal, case: CaseResult) -> GoalResult:
    rows = {row.name: row for row in case.contenders}
    ours, peer = rows[INT8], rows[goal.peer]
    absent = next((row for row in (ours, peer) if row.state != "ran"), None)
    if absent is not None:
        reason = f"{absent.title} ({absent.precision}): {absent.told}"
        return _result(goal, Figure.missing(reason), "not measured", reason)
    found = next(item.ratio for item in peer.ratios if item.to == INT8)
    told = _objection(goal, case, ours, found.value or 0)
    return _result(goal, found, "missed" if told else "met", told)


def _objection(goal: Goal, case: CaseResult, ours: ContenderResult, found: float) -> str:
    """Why a goal is missed (rule Z1); empty where it is met."""
    if ours.right is False:
        return f"its outputs are too far from {case.reference}'s: {ours.agreement}"
    if MISSES in case.fidelity:
        return f"the bundle's int8 {case.fidelity}"
    if found < goal.wanted:
        return f"{found:.2f} x where {goal.wanted:g} x was wanted"
    return ""


def _result(goal: Goal, found: Figure, verdict: str, told: str) -> GoalResult:
    return GoalResult(
        goal.words, goal.case, INT8, goal.peer, goal.wanted, found,
        verdict,  # type: ignore[arg-type]
        told,
    )  # fmt: skip
