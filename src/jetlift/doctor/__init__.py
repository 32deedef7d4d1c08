"""What this machine has, what is missing, and the exact line that mends it.

Rules:
    D1  It runs where nothing else does: with numpy or cv2 absent or broken. Both are imported in a
        child process, which may fail or crash without taking the doctor along.
    D2  Everything else is looked up (package metadata, files of the system), never imported.
    D3  Which packages jetlift needs comes from its own metadata, so it is written down once.
    D4  Only the core decides about the exit code, and a self-test that failed; what else is missing
        is a choice.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.doctor.core import examine_core
from jetlift.doctor.extras import examine_extras, examine_weights
from jetlift.doctor.finding import Finding
from jetlift.doctor.installed import Installed
from jetlift.doctor.machine import examine_machine
from jetlift.runtime.board import is_jetson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

__all__ = ["Finding", "examine", "exit_code", "show"]

_TITLES = {
    "core": "Core",
    "extras": "Extras",
    "weights": "Weights without a network",
    "machine": "Machine",
    "selftest": "A graph built and run here",
}
_SIGNS = {"ok": ("✓", "green"), "missing": ("-", "yellow"), "problem": ("✗", "red")}


def examine(*, root: Path = Path("/"), installed: Installed | None = None) -> list[Finding]:
    """Look at everything. Nothing is changed and nothing heavy is imported.

    Args:
        root: Where /proc, /sys and /etc lie.
        installed: The packages to look at; this interpreter's own by default.
    """
    from jetlift.runtime.passport import cuda_compute_capabilities

    packages = installed or Installed.here()
    findings = examine_core(packages)
    findings += examine_extras(packages, on_jetson=is_jetson(root))
    if all(item.status == "ok" for item in findings if item.name in ("numpy", "cv2")):
        findings += examine_weights(packages)  # recipes are written in numpy's words
    return findings + examine_machine(root, Path.cwd(), cuda_compute_capabilities())


def exit_code(findings: Sequence[Finding]) -> int:
    """0, or 4 where the core is incomplete or broken or a self-test failed (rule D4)."""
    failed = (
        (item.group == "core" and item.status != "ok")
        or (item.group == "selftest" and item.status == "problem")
        for item in findings
    )
    return 4 if any(failed) else 0


def show(findings: Sequence[Finding], console: Console) -> None:
    """Show findings to people: a table, then the lines to copy, whole however narrow it is."""
    from rich.text import Text

    console.print(_table(findings))
    lines = [item for item in findings if item.mend]
    if lines:
        console.print(Text("\nTo get what is missing", style="bold"))
    for item in lines:
        console.print(Text(f"# {item.name}", style="dim"))
        console.print(Text(item.mend), soft_wrap=True)


def _table(findings: Sequence[Finding]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for group, title in _TITLES.items():
        rows = [item for item in findings if item.group == group]
        if rows:
            table.add_row("", Text(title, style="bold"))
        for item in rows:
            sign, colour = _SIGNS[item.status]
            table.add_row(Text(sign, style=colour), Text(f"  {item.name}"), Text(item.what))
    return table
