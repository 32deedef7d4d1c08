"""docs/targets.md, from the facts alone: `jetlift targets --markdown` prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.engines.compatibility import VARIANTS, cells
from jetlift.engines.targets import TARGETS
from jetlift.jetson.abilities import abilities
from jetlift.jetson.facts import devices, refusal, release, releases, releases_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jetlift.engines.compatibility import Cell
    from jetlift.jetson.facts import Device, Release

COMMAND = "jetlift targets --markdown"
_HEAD = f"""# Targets

Written by `{COMMAND}` from the facts in jetson/ and engines/, each with its source there; a
test holds this page to them. **No engine has been built or run on a board so far.** What stands here
of TensorRT-RTX and of the CPU was tried: the compiler took, or refused, a graph with one product of that
kind. All else rests on NVIDIA's documents and on what others report.

`jetlift targets orin-nano-8gb` shows one board with power modes, releases, abilities and sources.
"""  # noqa: E501
_TYPES = """
Precision is in the graph, so a variant builds where the GPU computes its types and TensorRT says
so. `int8` has an FP32 rest, `int8-fp16` an FP16 rest.
"""
_ON_BOARDS = """
Releases newest first; releases that answer alike share a row. Those that jetlift refuses stand below.
"""  # noqa: E501


def page() -> str:
    """The whole page as Markdown."""
    notes = _Notes()
    sections = [
        _HEAD,
        "## Every target\n",
        _table(
            ("target", "library", "SM", "what it is"),
            (
                (f"`{item.name}`", item.library, item.compute_capability or "", item.description)
                for item in TARGETS.values()
            ),
        ),
        "## The boards\n",
        _boards(),
        "## What builds on CPUs and GPUs\n" + _TYPES,
        _gpus(notes),
        "## What builds on boards\n" + _ON_BOARDS,
        _board_cells(notes),
        "### Why not\n",
        "\n".join(notes.lines()) + "\n",
        "## JetPack releases\n",
        _releases(),
        "## JetPack releases that are refused\n",
        _table(
            ("JetPack", "TensorRT", "why"),
            ((item.version, item.tensorrt, item.refused) for item in releases() if item.refused),
        ),
        "## Boards that are refused\n",
        _refused(),
    ]
    return "\n".join(sections)


class _Notes:
    """Reasons, numbered as they come up."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._sources: dict[str, str] = {}

    def mark(self, cell: Cell) -> str:
        """What a cell of the table shows."""
        if not cell.reason:
            return "builds"
        number = self._numbers.setdefault(cell.reason, len(self._numbers) + 1)
        self._sources.setdefault(cell.reason, cell.source)
        return f"{'builds' if cell.builds else 'no'} [{number}]"

    def lines(self) -> list[str]:
        """The notes themselves."""
        return [
            f"{number}. {reason[0].upper()}{reason[1:]}. Source: {self._sources[reason]}"
            for reason, number in self._numbers.items()
        ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _boards() -> str:
    head = ("target", "SM", "SMs", "GPU MHz", "memory", "DLA", "starts in", "other modes")
    return _table(head, (_board_row(item) for item in devices().values() if not refusal(item)))


def _board_row(device: Device) -> tuple[str, ...]:
    default = device.default_mode
    others = [mode.name for mode in device.power_modes if mode is not default]
    started = ""
    if default is not None:
        started = f"{default.name}: {default.sm_active} SMs at {default.gpu_max_mhz:g} MHz"
    return (
        f"`{device.name}`",
        device.compute_capability,
        str(device.sm_count),
        f"{device.gpu_max_mhz:g}",
        f"{device.memory_gb} GB, {device.memory_bandwidth_gbps:g} GB/s",
        str(device.dla_count) if device.dla_count else "none",
        started,
        ", ".join(others),
    )


def _gpus(notes: _Notes) -> str:
    rows: dict[str, list[Cell]] = {}
    for cell in cells():
        if cell.jetpack is None:
            rows.setdefault(cell.target, []).append(cell)
    return _table(
        ("target", *VARIANTS),
        ((f"`{name}`", *map(notes.mark, row)) for name, row in rows.items()),
    )


def _board_cells(notes: _Notes) -> str:
    """One block per group of boards that answer alike, one row per run of releases that do."""
    by_board: dict[str, list[tuple[str, tuple[Cell, ...]]]] = {}
    for cell in cells():
        if cell.jetpack is not None and not release(cell.jetpack).refused:
            runs = by_board.setdefault(cell.target, [])
            if not runs or runs[-1][0] != cell.jetpack:
                runs.append((cell.jetpack, ()))
            runs[-1] = (cell.jetpack, (*runs[-1][1], cell))
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, rows in by_board.items():
        groups.setdefault(tuple((v, *_answer(row)) for v, row in rows), []).append(name)
    lines = []
    for names in groups.values():
        told = ", ".join(f"`{name}`" for name in names)
        lines += [
            (told if i == 0 else "", *row) for i, row in enumerate(_runs(by_board, names, notes))
        ]
    return _table(("board", "JetPack", "TensorRT", *VARIANTS), lines)


def _runs(
    by_board: dict[str, list[tuple[str, tuple[Cell, ...]]]], names: list[str], notes: _Notes
) -> list[tuple[str, ...]]:
    """Rows of one board, neighbouring releases that answer alike taken together."""
    runs: list[list[tuple[str, tuple[Cell, ...]]]] = []
    for version, row in by_board[names[0]]:
        if runs and _answer(runs[-1][0][1]) == _answer(row):
            runs[-1].append((version, row))
        else:
            runs.append([(version, row)])
    return [
        (
            run[0][0] if len(run) == 1 else f"{run[-1][0]} to {run[0][0]}",
            str(run[0][1][0].tensorrt),
            *map(notes.mark, run[0][1]),
        )
        for run in runs
    ]


def _answer(row: tuple[Cell, ...]) -> tuple[object, ...]:
    return tuple((cell.tensorrt, cell.builds, cell.reason) for cell in row)


def _releases() -> str:
    head = ("JetPack", "Jetson Linux", "TensorRT", "CUDA", "Python", "boards", "TensorRT 11", "DLA")
    return _table(head, (_release_row(item) for item in releases() if not item.refused))


def _release_row(told: Release) -> tuple[str, ...]:
    able = {item.family: abilities(item, told) for item in devices().values() if told.runs_on(item)}
    return (
        told.version,
        told.l4t or "not known",
        told.tensorrt,
        told.cuda,
        told.python,
        ", ".join(told.families),
        ", ".join(name for name, item in able.items() if item["tensorrt_11"].able) or "no",
        ", ".join(name for name, item in able.items() if item["dla"].able) or "no",
    )


def _refused() -> str:
    old = [item for item in devices().values() if not releases_for(item)]
    return _table(
        ("board", "SM", "why"),
        ((item.product, item.compute_capability, str(refusal(item))) for item in old),
    )
