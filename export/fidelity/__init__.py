"""How near a variant is to fp32, by the task's metric, on samples calibration never saw."""

from jetlift.export.fidelity.budget import (
    OWN_GRAPH_BUDGET,
    BudgetLine,
    breaches,
    parse_budget,
    worst_slack,
)
from jetlift.export.fidelity.judge import judge, outputs_of, refusal
from jetlift.export.fidelity.metric import Metric, MetricContext, Outputs
from jetlift.export.fidelity.vectors import (
    VectorMetric,
    compare,
    row_cosines,
    spearman,
    vector_loss,
)

__all__ = [
    "OWN_GRAPH_BUDGET",
    "BudgetLine",
    "Metric",
    "MetricContext",
    "Outputs",
    "VectorMetric",
    "breaches",
    "compare",
    "judge",
    "outputs_of",
    "parse_budget",
    "refusal",
    "row_cosines",
    "spearman",
    "vector_loss",
    "worst_slack",
]
