"""A side by side as one drawing: per case, a bar for each contender's time.

Rules:
    D1  An axis begins at zero, so that lengths are times. jetlift's bars have the colours of their
        precision; the others are grey, and one that is wrong is marked so.
    D2  A contender that did not run keeps its row, which says so.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks.canvas import FONT_PX, colour, draw_alone
from jetlift.benchmarks.peers.cases import INT8
from jetlift.benchmarks.peers.table import milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.benchmarks.peers.form import CaseResult, ContenderResult, PeersTable

_WIDTH_PX, _ROW_PX, _PANEL_PX = 860, 22, 74


def to_svg(table: PeersTable) -> str | None:
    """Draw all cases in one file that follows the reader's light or dark scheme.

    Returns:
        The file's text; None where nothing ran.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    cases = [case for case in table.cases if any(row.state == "ran" for row in case.contenders)]
    if not cases:
        return None
    return draw_alone(
        "peers",
        spoken="Median time of each contender. " + "; ".join(_spoken(case) for case in cases),
        paint=partial(_paint, cases=cases),
        width=_WIDTH_PX,
        height=sum(_height(case) for case in cases),
    )


def _height(case: CaseResult) -> int:
    return _PANEL_PX + _ROW_PX * len(case.contenders)


def _spoken(case: CaseResult) -> str:
    told = [
        f"{_title(row)}: {milliseconds(row.median_ms.value)} ms"
        if row.median_ms.value is not None
        else f"{_title(row)}: {row.state}"
        for row in case.contenders
    ]
    return f"{case.title}: {', '.join(told)}"


def _title(row: ContenderResult) -> str:
    doubled = row.precision.upper() in row.title
    return row.title if doubled else f"{row.title}, {row.precision}"


def _paint(axes: Any, *, cases: Sequence[CaseResult]) -> None:  # noqa: ANN401 - matplotlib's types stay out of signatures
    figure = axes.figure
    axes.remove()
    heights = [_height(case) for case in cases]
    grid = figure.subplots(len(cases), 1, squeeze=False, height_ratios=heights)
    for own, case in zip(grid[:, 0], cases, strict=True):
        _paint_case(own, case)


def _paint_case(axes: Any, case: CaseResult) -> None:  # noqa: ANN401
    most = max(row.median_ms.value or 0.0 for row in case.contenders)
    for place, row in enumerate(case.contenders):
        told = _told(row)
        length = row.median_ms.value or 0.0
        own = row.name in case.ours
        axes.barh(
            place, length, height=0.66, alpha=1 if own else 0.5,
            color=colour(row.precision if own else "muted"),
        )  # fmt: skip
        axes.text(
            length + most * 0.01, place, told, va="center", size=FONT_PX - 1,
            color=colour("bad" if row.right is False or row.state != "ran" else "ink"),
        )  # fmt: skip
    axes.set_yticks(range(len(case.contenders)), [_title(row) for row in case.contenders])
    axes.set_ylim(len(case.contenders) - 0.4, -0.6)
    axes.set_xlim(0, most * 1.3)
    axes.grid(visible=False, axis="y")
    axes.set_title(
        f"{case.title}: ms (times jetlift INT8)", loc="left", size=FONT_PX + 1, weight="bold"
    )


def _told(row: ContenderResult) -> str:
    if row.median_ms.value is None:
        return row.state
    ratio = next((item.ratio.value for item in row.ratios if item.to == INT8), None)
    told = milliseconds(row.median_ms.value) + ("" if ratio is None else f"  ({ratio:.2f} x)")
    return f"{told}, wrong" if row.right is False else told
