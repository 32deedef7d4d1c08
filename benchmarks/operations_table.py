"""One network's counts side by side, and the table of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jetlift.benchmarks.operations_networks import Network

GIGA = 1e9


@dataclass(frozen=True)
class Row:
    """Counts of one network.

    Attributes:
        network: Which.
        counts: What the child told, or `failed` with its reason.
        listed_gmac: Of the table of workloads; None where it is not in it.
    """

    network: Network
    counts: Mapping[str, Any]
    listed_gmac: float | None

    @property
    def failed(self) -> str:
        """Why there is no count; empty where there is one."""
        return str(self.counts.get("failed", ""))

    @property
    def ours_gmac(self) -> float:
        """Multiply-adds by jetlift, 10^9."""
        return float(self.counts["macs"]) / GIGA

    @property
    def counter_gmac(self) -> float:
        """Multiply-adds by PyTorch's counter, 10^9."""
        return float(self.counts["flop_counter_macs"]) / GIGA

    @property
    def differences(self) -> list[float]:
        """Ours over theirs less one, per source that has the network, after what is explained."""
        theirs = [self.counter_gmac + self.network.counter_left_out_gmac]
        if self.listed_gmac is not None:
            theirs.append(self.listed_gmac + self.network.listed_left_out_gmac)
        return [self.ours_gmac / other - 1 for other in theirs]

    def agrees(self, limit: float) -> bool:
        """Whether everything was counted and no more than `limit` remains."""
        if self.failed or self.counts["uncounted"]:
            return False
        return all(abs(difference) <= limit for difference in self.differences)

    def line(self) -> str:
        """One line for a terminal."""
        if self.failed:
            return f"{self.network.name:34} failed: {self.failed}"
        listed = "-" if self.listed_gmac is None else f"{self.listed_gmac:.4f}"
        left = ", ".join(f"{item:+.3%}" for item in self.differences)
        told = f"  uncounted: {self.counts['uncounted'][:3]}" if self.counts["uncounted"] else ""
        name, counted = f"{self.network.name:34}", f"{self.ours_gmac:10.4f} GMAC"
        return f"{name} {counted}  counter {self.counter_gmac:.4f}  table {listed}  {left}{told}"


_PROSE = """# Operations

What networks cost, counted from their ONNX graphs by `jetlift` (engines/ops.py, whose rules stand
in op_rules.py and fusion.py) and by others. Written by
`python -m jetlift.benchmarks.operations_bench --markdown docs/operations.md`, {dates},
with {versions}. Weights are random or absent: operations do not depend on them.

- **GMAC**: 10^9 multiply-adds of convolutions, GEMM and products of activations, at batch 1 and the
  side or length after the `@`; a part of the zoo (`model/part`) at its `opt_shape`, which for the
  UNet of Stable Diffusion is batch 2. One is two operations.
- **FlopCounterMode**: `torch.utils.flop_counter`, which counts the operators that PyTorch runs.
- **listed**: a list of 84 networks' work, counted layer by layer from public definitions.
- **all operations**: multiply-adds as two, and elementwise work, norms, softmax, pooling, resizing.
- **moved**: bytes read and written in FP32, each node on its own, and with chains of elementwise
  work and norms fused to the node they follow. Caches and attention kernels may do better.

{agree} of {all} networks agree with every other counter to within 1 %; the largest difference is
{largest}. {listed} of them are in the list.
"""


def markdown(rows: Sequence[Row], absent: Sequence[str]) -> str:
    """The page: how it was counted, the table, what is explained, what is missing."""
    columns = (
        "network", "definition", "parameters, M", "ours, GMAC", "FlopCounterMode, GMAC",
        "difference", "listed, GMAC", "difference", "all operations, G", "weights, MB",
        "moved unfused, MB", "moved fused, MB",
    )  # fmt: skip
    head = (f"| {' | '.join(columns)} |", "|---|---|" + "--:|" * (len(columns) - 2))
    body = [_cells(row) for row in rows]
    notes = [f"- `{row.network.name}`: {_note(row)}" for row in rows if row.network.why]
    if absent:
        notes.append(f"- Not counted in this run: {', '.join(absent)}.")
    return "\n".join((_prose(rows), *head, *body, "", *notes, ""))


def _prose(rows: Sequence[Row]) -> str:
    versions = {
        name: version for row in rows for name, version in row.counts.get("versions", {}).items()
    }
    dates = sorted({row.counts["date"] for row in rows if "date" in row.counts})
    apart = [abs(difference) for row in rows if not row.failed for difference in row.differences]
    return _PROSE.format(
        dates=" and ".join(dates) or "undated",
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        agree=sum(row.agrees(0.01) for row in rows),
        all=len(rows),
        largest=f"{max(apart, default=0.0):.3%}",
        listed=sum(row.listed_gmac is not None for row in rows),
    )


def _cells(row: Row) -> str:
    if row.failed:
        return f"| {row.network.name} | {row.network.source} | failed: {row.failed} |"
    counts = row.counts
    listed = row.listed_gmac
    cells = (
        row.network.name,
        row.network.source,
        f"{counts['parameters'] / 1e6:.3f}",
        f"{row.ours_gmac:.4f}",
        f"{row.counter_gmac:.4f}",
        f"{row.ours_gmac / row.counter_gmac - 1:+.2%}",
        "" if listed is None else f"{listed:.4f}",
        "" if listed is None else f"{row.ours_gmac / listed - 1:+.2%}",
        f"{counts['operations'] / GIGA:.3f}",
        *(f"{counts[key] / 1e6:.1f}" for key in ("weight_bytes", "moved_bytes", "fused_bytes")),
    )
    return "| " + " | ".join(cells) + " |"


def _note(row: Row) -> str:
    if row.failed:
        return row.network.why
    left = max(row.differences, key=abs)
    return f"{row.network.why} What remains: {left:+.2%}."
