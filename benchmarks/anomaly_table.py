"""Figures of the scenes with synthetic defects, as a table and as a drawing.

Rules:
    T1  A line is one bundle, precision, method and size, led by its weakest scene and kind.
    T2  Sizes under the target's are marked: shown, not asked for.
    T3  Rows of one scene measured twice count once, the last one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks.canvas import colour, draw_alone

if TYPE_CHECKING:
    from collections.abc import Sequence

    Row = dict[str, Any]
    Group = tuple[str, str, str]

TARGET = 0.95
_MARKS = "osD^v"
_WIDTH_PX, _HEIGHT_PX = 760, 340
_HEAD = (
    "| model | precision | method | defect, % of area | image AUROC, weakest scene | mean "
    "| weakest kind in any scene | pixel AUROC, weakest scene | mean |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def groups(rows: Sequence[Row]) -> dict[Group, list[Row]]:
    """Rows by model, precision and method (rule T3)."""
    last = {(r["model"], r["precision"], r["method"], r["scene"]): r for r in rows}
    found: dict[Group, list[Row]] = {}
    for (model, precision, method, _), row in last.items():
        found.setdefault((model, precision, method), []).append(row)
    return found


def missed(rows: Sequence[Row], least: float) -> list[str]:
    """Where image AUROC is under the target, from a size on."""
    return [
        f"{model} {precision} {method}, {row['scene']}, {size['share']:.2%}: "
        f"{size['image_auroc']:.3f}"
        for (model, precision, method), group in groups(rows).items()
        for row in group
        for size in row["sizes"]
        if size["share"] >= least and size["image_auroc"] < TARGET
    ]


def to_markdown(rows: Sequence[Row], least: float) -> str:
    """Both tables: per size, and per scene."""
    found = groups(rows)
    scenes = len({row["scene"] for row in rows})
    target = (
        f"Synthetic defects in {scenes} scenes. Target: image AUROC of {TARGET} in every scene, "
        f"for defects from {least:.2%} of the area on."
    )
    lines = [target, "", _HEAD]
    for group, members in found.items():
        lines += [_line(group, members, number, least) for number in range(_sizes(members))]
    lines += ["", "Image AUROC / pixel AUROC of every scene, synthetic defects:", ""]
    for group, members in found.items():
        shares = [f"{size['share']:.2%}" for size in members[0]["sizes"]]
        lines += [f"**{' '.join(group)}**", "", f"| scene | {' | '.join(shares)} |"]
        lines.append("|---" * (len(shares) + 1) + "|")
        lines += [_scene_line(row) for row in sorted(members, key=_weakest)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _line(group: Group, members: list[Row], number: int, least: float) -> str:
    sizes = [(row["scene"], row["sizes"][number]) for row in members]
    share = sizes[0][1]["share"]
    images = [size["image_auroc"] for _, size in sizes]
    pixels = [size["pixel_auroc"] for _, size in sizes]
    scene = min(sizes, key=lambda item: float(item[1]["image_auroc"]))[0]
    kind, value = min(
        ((kind, value) for _, size in sizes for kind, value in size["kinds"].items()),
        key=lambda item: float(item[1]),
    )
    mark = "" if share >= least else " (not asked for)"
    cells = (
        *group,
        f"{share * 100:g}{mark}",
        f"{min(images):.3f} ({scene})",
        f"{sum(images) / len(images):.3f}",
        f"{value:.3f} ({kind})",
        f"{min(pixels):.3f}",
        f"{sum(pixels) / len(pixels):.3f}",
    )
    return f"| {' | '.join(cells)} |"


def _scene_line(row: Row) -> str:
    cells = [f"{size['image_auroc']:.3f} / {size['pixel_auroc']:.3f}" for size in row["sizes"]]
    return f"| {row['scene']} | {' | '.join(cells)} |"


def _weakest(row: Row) -> float:
    return min(float(size["image_auroc"]) for size in row["sizes"])


def _sizes(members: Sequence[Row]) -> int:
    return min(len(row["sizes"]) for row in members)


def to_svg(rows: Sequence[Row], least: float) -> str:
    """Every scene as a mark, by the size of its defects.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    found = groups(rows)
    told = [
        f"{' '.join(group)}: weakest scene "
        + ", ".join(
            f"{min(row['sizes'][n]['image_auroc'] for row in members):.3f} "
            f"at {members[0]['sizes'][n]['share']:.2%}"
            for n in range(_sizes(members))
        )
        for group, members in found.items()
    ]
    height = _HEIGHT_PX + 18 * len(found)
    return draw_alone(
        "scenes",
        spoken=f"Image AUROC of synthetic defects by size, one mark per scene. {'; '.join(told)}",
        paint=partial(_paint, found=found, least=least),
        width=_WIDTH_PX,
        height=height,
    )


def _paint(axes: Any, *, found: dict[Group, list[Row]], least: float) -> None:  # noqa: ANN401
    colours = ("fp32", "int8", "fp16", "bf16", "int4w")
    shares: list[float] = []
    for place, (group, members) in enumerate(found.items()):
        shares = [size["share"] for size in members[0]["sizes"]]
        across = [n + (place - (len(found) - 1) / 2) * 0.8 / len(found) for n in range(len(shares))]
        tone = colour(colours[place % len(colours)])
        for n, x in enumerate(across):
            values = [row["sizes"][n]["image_auroc"] for row in members]
            axes.plot(
                [x] * len(values), values, _MARKS[place % len(_MARKS)], color=tone,
                markersize=5, alpha=0.75, label=" ".join(group) if n == 0 else None,
            )  # fmt: skip
    axes.axhline(TARGET, color=colour("bad"), linewidth=1, linestyle="--")
    asked = next((n for n, share in enumerate(shares) if share >= least), len(shares))
    if asked:
        axes.axvline(asked - 0.5, color=colour("muted"), linewidth=1, linestyle=":")
    axes.set_xticks(range(len(shares)), [f"{share * 100:g} %" for share in shares])
    axes.set_xlabel("synthetic defect, share of the picture's area")
    axes.set_ylabel(f"image AUROC, one mark per scene (line: {TARGET})")
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncol=2, frameon=False)
