"""Inline SVG that takes its colours and font from the page it stands in.

Rules:
    G1  matplotlib draws with marker colours, and each becomes a CSS variable of the page
        afterwards: one drawing serves light, dark and print.
    G2  Every chart is drawn twice, for a wide and a narrow column, so that text keeps its size.
    G3  Ids are prefixed per drawing, since one page holds them all; nothing refers outside of it.
    G4  A variant is told by line style or mark too, never by its colour alone.
    G5  Legends are the page's, since only the page can wrap them.
    G6  A drawing that stands alone is a file in one width and brings the page's colours and its own
        legend along.
"""

from __future__ import annotations

import io
import re
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.runtime import atomic
from jetlift.runtime.errors import MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Callable

    Paint = Callable[[Any], None]

_VARIABLES = (
    "ink", "muted", "line", "card", "fp32", "fp16", "bf16", "int8", "int4w",
    "int8-fp16", "step1", "step2", "step3", "bad",
)  # fmt: skip
_COLOURS = {
    name: f"#{index + 1:02x}{index + 1:02x}{index + 1:02x}" for index, name in enumerate(_VARIABLES)
}
_WIDTHS = {"wide": 506, "narrow": 324}  # what the page's columns leave: text is shown at its size
_HEIGHT = 310
_POINTS_PER_INCH = 72  # matplotlib writes SVG at one user unit per point
FONT_PX = 12
_ROOT = re.compile(r":root \{(.*?)\}", re.DOTALL)
_CSS = Path(__file__).parent / "templates" / "report.css"


@dataclass(frozen=True)
class Key:
    """One entry of a legend.

    Attributes:
        label: What it stands for.
        shape: Class of its swatch in report.css: `line`, `dash`, `circle`, `square`, `box`, …
        colour: CSS variable of its colour, without the dashes.
    """

    label: str
    shape: str
    colour: str


@dataclass(frozen=True)
class Chart:
    """One chart, ready for the page.

    Attributes:
        title: What it shows.
        caption: How to read it.
        legend: What its colours and marks stand for.
        wide: SVG for columns from 480 px on.
        narrow: SVG below that.
    """

    title: str
    caption: str
    legend: tuple[Key, ...]
    wide: str
    narrow: str


def check_packages() -> None:
    """Refuse where matplotlib is missing.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackageError("matplotlib", extra="report", purpose="to draw charts") from error


def colour(variable: str) -> str:
    """The marker colour that becomes a CSS variable of the page (rule G1)."""
    return _COLOURS.get(variable, _COLOURS["ink"])


def draw(
    name: str,
    *,
    title: str,
    caption: str,
    spoken: str,
    legend: tuple[Key, ...],
    paint: Paint,
    height: int = _HEIGHT,
) -> Chart:
    """Draw a chart in both widths.

    Args:
        name: Unique in the page.
        title: What it shows.
        caption: How to read it.
        spoken: Its figures in words, for who cannot see it.
        legend: What its colours and marks stand for.
        paint: Draws on the matplotlib axes it is given.
        height: In pixels.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    label = f"{title}. {spoken}."
    drawn = {
        kind: _for_page(_svg(paint, width, height, f"{name}-{kind}"), f"{name}-{kind}", label)
        for kind, width in _WIDTHS.items()
    }
    return Chart(title, caption, legend, **drawn)


def draw_alone(name: str, *, spoken: str, paint: Paint, width: int, height: int) -> str:
    """Draw an SVG file that follows its reader's light or dark scheme (rule G6).

    Args:
        name: Prefix of its ids.
        spoken: What it shows, in words, for who cannot see it.
        paint: Draws on the matplotlib axes it is given.
        width: In pixels.
        height: In pixels.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    svg = _for_page(_svg(paint, width, height, name), name, spoken)
    css = _CSS.read_text(encoding="utf-8")
    before, _, after = css.partition("@media (prefers-color-scheme: dark)")
    light, dark = (" ".join(_ROOT.findall(text)[0].split()) for text in (before, after))
    style = (
        f"svg {{ {light} background: var(--card); }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}"
    )
    opening, rest = svg.split(">", 1)
    return f'{opening} width="{width}" height="{height}"><style>{style}</style>{rest}'


def _svg(paint: Paint, width: int, height: int, salt: str) -> str:
    check_packages()
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    size = (width / _POINTS_PER_INCH, height / _POINTS_PER_INCH)
    with mpl.rc_context(_style(salt)):
        figure = Canvas(figsize=size, layout="constrained")
        paint(figure.add_subplot())
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return buffer.getvalue()


def _style(salt: str) -> Any:  # noqa: ANN401 - matplotlib types the names of its settings
    ink, muted, line = colour("ink"), colour("muted"), colour("line")
    return {
        "svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "DejaVu Sans",
        "font.size": FONT_PX, "text.color": ink, "axes.labelcolor": muted, "axes.labelpad": 6,
        "axes.edgecolor": line, "xtick.color": line, "ytick.color": line,
        "xtick.labelcolor": muted, "ytick.labelcolor": muted, "axes.grid": True,
        "grid.color": line, "grid.linewidth": 0.8, "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    }  # fmt: skip


def _for_page(svg: str, prefix: str, label: str) -> str:
    """Make a file of matplotlib's a part of the page (rules G1, G3)."""
    svg = svg[svg.index("<svg") :]
    for variable, marker in _COLOURS.items():
        svg = svg.replace(marker, f"var(--{variable})")
    svg = re.sub(r"""(["'])?DejaVu Sans\1""", "var(--sans)", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    opening, rest = svg.split(">", 1)
    opening = re.sub(r' (?:width|height)="[^"]*"', "", opening)  # the page's column decides
    return f'{opening} role="img" aria-label="{escape(label)}">{rest}'


def write_chart(path: Path, draw: Callable[[], str | None]) -> bool:
    """Write a chart beside its table, where there is something to draw; whether it was written.

    Without matplotlib a table is worth having all the same, so that is told. A chart of an earlier
    run would not belong to this table and is removed.

    Raises:
        StorageError: The folder cannot be written.
    """
    chart = None
    try:
        chart = draw()
    except MissingPackageError as error:
        sys.stderr.write(f"No chart: {error}\n")
    if chart is None:
        path.unlink(missing_ok=True)
        return False
    atomic.write_bytes(path, chart.encode())
    return True
