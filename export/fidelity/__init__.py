"""How near a variant is to fp32, by the task's metric, on samples calibration never saw."""

from jetlift.export.fidelity.boxes import BoxMetric
from jetlift.export.fidelity.budget import (
    OWN_GRAPH_BUDGET,
    BudgetLine,
    breaches,
    lines_for,
    parse_budget,
    worst_slack,
)
from jetlift.export.fidelity.judge import judge, outputs_of, refusal
from jetlift.export.fidelity.metric import Metric, MetricContext, Outputs
from jetlift.export.fidelity.pictures import PictureMetric
from jetlift.export.fidelity.vectors import (
    RANKABLE,
    RANKED,
    VectorMetric,
    compare,
    row_cosines,
    spearman,
    vector_loss,
)
from jetlift.export.fidelity.views import ViewMetric
from jetlift.export.fidelity.words import WordMetric

# Every metric there is, so that a misspelt budget is refused before any work.
METRIC_NAMES = tuple(
    dict.fromkeys(
        [
            *VectorMetric.names,
            *WordMetric.names,
            *BoxMetric.names,
            *PictureMetric.names,
            *ViewMetric.names,
            *("top1_agreement", "top5_agreement", "top1", "top5"),
            *("image_auroc", "pixel_auroc", "map_error"),
        ]
    )
)

__all__ = [
    "METRIC_NAMES",
    "OWN_GRAPH_BUDGET",
    "RANKABLE",
    "RANKED",
    "BudgetLine",
    "Metric",
    "MetricContext",
    "Outputs",
    "VectorMetric",
    "breaches",
    "compare",
    "judge",
    "lines_for",
    "outputs_of",
    "parse_budget",
    "refusal",
    "row_cosines",
    "spearman",
    "vector_loss",
    "worst_slack",
]
