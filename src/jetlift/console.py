"""What the command line shows while it works: progress on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Report = Callable[[str, float], None]


@contextlib.contextmanager
def stages() -> Iterator[Report]:
    """Show named stages, each with a bar while it has a share to tell.

    On a terminal the bars move; elsewhere each stage is one line when it begins.
    """
    if not sys.stderr.isatty():
        yield _plain_stages()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def report(stage: str, share: float) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    progress.update(task, completed=1.0)
                tasks[stage] = progress.add_task(stage, total=1.0)
            progress.update(tasks[stage], completed=share)

        yield report
        for task in tasks.values():
            progress.update(task, completed=1.0)


def _plain_stages() -> Report:
    seen: set[str] = set()

    def report(stage: str, _share: float) -> None:
        if stage not in seen:
            seen.add(stage)
            sys.stderr.write(f"{stage}\n")

    return report


@contextlib.contextmanager
def counting(label: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show how many inputs are done and at which rate; `total` None where nobody knows."""
    started, done = time.perf_counter(), 0
    if not sys.stderr.isatty():

        def count() -> None:
            nonlocal done
            done += 1

        yield count
        elapsed = time.perf_counter() - started
        sys.stderr.write(f"{label}: {done} in {elapsed:.1f} s ({done / elapsed:.1f} per second)\n")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} per second"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, rate=0.0)

        def advance() -> None:
            nonlocal done
            done += 1
            rate = done / max(time.perf_counter() - started, 1e-9)
            progress.update(task, advance=1, rate=rate)

        yield advance


def show_json(result: object) -> None:
    """Print a result for programs."""
    sys.stdout.write(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a result for people."""
    _print_table(sys.stdout, title, columns, rows)


def tell_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table for people on stderr, beside results on stdout."""
    _print_table(sys.stderr, title, columns, rows)


def _print_table(
    stream: IO[str], title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    # Off a terminal a table must not be cut to 80 columns.
    Console(file=stream, width=None if stream.isatty() else 160).print(table)


def say(text: str) -> None:
    """Print one line for people on stderr, where it disturbs no pipe."""
    sys.stderr.write(f"{text}\n")
