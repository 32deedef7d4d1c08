"""What a metric is: figures of a variant's outputs against fp32's on the same samples.

Figures are named `output.metric`, or `metric` alone where they speak of the whole task. A figure
that is a rate of errors against the truth has fp32's own beside it, as `metric_fp32`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy.typing as npt

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.export.samples import Samples

# Per output, one array per sample, batch 1.
Outputs: TypeAlias = Mapping[str, Sequence[npt.NDArray[Any]]]


class Metric(Protocol):
    """Judges a part's outputs.

    Attributes:
        names: Figures it can give, without the output's name.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Figures it can give, without the output's name."""

    def figures(self, reference: Outputs, got: Outputs) -> dict[str, float]:
        """Compare.

        Args:
            reference: Outputs of the fp32 graph.
            got: Outputs of the variant on the same samples.
        """

    def loss(self, figures: Mapping[str, float]) -> float:
        """How far figures are from fp32's, in one number to rank by; 0 is equal."""


@dataclass(frozen=True)
class MetricContext:
    """What a recipe may need to make its metric.

    Attributes:
        part: The part that is judged.
        samples: The samples whose outputs will be compared, with what is true of them.
        files: The fp32 graph of every part, by part.
        folder: The folder of the bundle under construction, with its assets.
    """

    part: str
    samples: Samples
    files: Mapping[str, Path]
    folder: Path
