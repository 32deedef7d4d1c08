"""The command that builds a whole matrix of models, precisions and targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.options import JsonFlag, OutOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from jetlift.engines.matrix_form import Model
    from jetlift.engines.matrix_table import Row, Table
    from jetlift.runtime.bundle import Bundle

    Report = Callable[[str, float], None]


@app.command("build-engines", epilog="Example: jetlift build-engines engines.toml -o engines")
def build_engines(
    manifest: Annotated[Path, typer.Argument(help="TOML: models, precisions, targets.")],
    out: OutOption = Path("engines"),
    *,
    jobs: Annotated[
        int, typer.Option(min=1, help="Builds at a time for machines other than this one.")
    ] = 1,
    race_limit_s: Annotated[
        float, typer.Option(min=0.0, help="Seconds per part to time INT8 against fp32 here.")
    ] = 15.0,
    as_json: JsonFlag = False,
) -> None:
    """Build every engine of a manifest: models x precisions x targets, with one table at the end.

    Finished bundles and engines are kept, so an interrupted run goes on where it was. What fails is
    a row with its reason, and the rest goes on.
    """
    from jetlift.engines.build import build_for
    from jetlift.engines.matrix import TABLE_NAME, Run
    from jetlift.engines.matrix_form import read_matrix
    from jetlift.engines.targets import target as target_of
    from jetlift.engines.where import is_here
    from jetlift.runtime import jsonform
    from jetlift.runtime.host import here

    host = here()
    with console.stages() as report:
        table = Run(
            read_matrix(manifest),
            out,
            export=lambda model, folder: _export(model, folder, report),
            build=lambda bundle, target, precisions: build_for(
                bundle, target, precisions, race_limit_s=race_limit_s, notify=console.say
            ),
            is_here=lambda name: is_here(target_of(name), host),
            jobs=jobs,
            tell=report,
        ).run()
    if as_json:
        console.show_json(jsonform.to_data(table))
    else:
        _show(table)
        console.say(f"The table for programs: {out / TABLE_NAME}")
    raise typer.Exit(table.exit_code)


def _export(model: Model, folder: Path, report: Report) -> Bundle:
    from jetlift.export.detector import DetectOptions
    from jetlift.export.make import DEFAULT_PRECISIONS, Request, export_onnx, export_recipe
    from jetlift.export.precision.int8 import SearchOptions
    from jetlift.export.recipes import recipe

    samples = None if model.samples is None else Path(model.samples)
    usual = DEFAULT_PRECISIONS if samples is not None else ("fp32", "fp16")
    minutes = model.search_minutes
    request = Request(
        folder,
        model.precisions if model.precisions is not None else usual,
        samples,
        model.fidelity,
        model.keep or False,
        SearchOptions() if minutes is None else SearchOptions(60 * minutes),
    )

    def tell(stage: str, share: float) -> None:
        report(f"{model.name}: {stage}", share)

    if model.onnx is None:
        return export_recipe(recipe(str(model.model)), model.weights, request, tell)
    labels = None if model.labels is None else Path(model.labels)
    detect = DetectOptions(labels) if model.task else None
    return export_onnx(Path(model.onnx), request, detect=detect, report=tell)


def _show(table: Table) -> None:
    columns = ("model", "part", "variant", "target", "engine", "MB", "s", "INT8", "gate", "why")
    console.show_table("Engines", columns, [_cells(row) for row in table.rows])


def _cells(row: Row) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    size = None if row.size_bytes is None else row.size_bytes / 1e6
    why = row.gate_reason if row.outcome in ("built", "kept") else row.reason
    if row.speed is not None:
        ratio = "" if row.speed_ratio is None else f" ({row.speed_ratio:.2f} of fp32's time)"
        why = "; ".join(filter(None, (why, f"speed: {row.speed}{ratio}")))
    return (
        row.model,
        row.part or "",
        row.precision or "",
        row.target,
        row.outcome,
        number(size, ".1f"),
        number(row.seconds, ".1f"),
        number(row.int8_share, ".1%"),
        row.gate,
        why,
    )
