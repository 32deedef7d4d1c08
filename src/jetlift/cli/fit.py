"""The command that learns from good pictures, and judges what it learned on test pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.opening import mark_of, opened_session
from jetlift.cli.options import (
    AllowRandomFlag,
    BundleArgument,
    JsonFlag,
    PrecisionOption,
    TargetOption,
    ThreadsOption,
)

if TYPE_CHECKING:
    from jetlift.export.fidelity.anomaly_folder import AnomalyFigures, Judged, Shot
    from jetlift.runtime.tasks.anomaly_model import AnomalyHead
    from jetlift.runtime.tasks.base import Task


@app.command(epilog="Example: jetlift fit dinov2 tile/train/good -o tile.fit --test tile")
def fit(
    bundle: BundleArgument,
    good: Annotated[str, typer.Argument(help="Folder of pictures without defects.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the anomaly model.")],
    *,
    method: Annotated[
        str, typer.Option("--method", help="padim (by position) or patchcore (wherever it is).")
    ] = "padim",
    test: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--test",
            help="Folder as MVTec AD has it (test/good, test/DEFECT, ground_truth): prints image "
            "and pixel AUROC.",
        ),
    ] = None,
    precision: PrecisionOption = None,
    target: TargetOption = "cpu",
    threads: ThreadsOption = None,
    allow_random: AllowRandomFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Learn what good pictures look like, for 'jetlift run --task anomaly'."""
    from jetlift.runtime.sources import open_source
    from jetlift.runtime.tasks import open_task
    from jetlift.runtime.tasks.anomaly_fit import fit as fit_model
    from jetlift.runtime.tasks.anomaly_model import method_of

    described = method_of(method)
    shots = () if test is None else _read(test)
    with opened_session(bundle, precision, target, threads, allow_random=allow_random) as (
        opened,
        part,
        chosen,
        session,
    ):
        with open_source([good]) as source, console.counting("fit", source.count) as advance:
            model = fit_model(
                opened, session, source, precision=chosen, target=target, part=part,
                method=described, progress=lambda _done: advance(),
            )  # fmt: skip
            for skipped in source.skipped:
                console.say(f"Skipped {skipped.source}: {skipped.reason}")
        model.save(out)
        task = open_task("anomaly", opened, session, precision=chosen, part=part, fit=model)
        judged = _judged(task, shots)
    for note in model.head.notes:
        console.say(note)
    if as_json:
        console.show_json({**mark_of(opened), **_told(model.head, out, judged)})
        return
    console.say(f"Threshold {model.head.threshold.value:.2f}. Written: {out}")
    if judged:
        _say(judged)


def _read(test: Path) -> tuple[Shot, ...]:
    from jetlift.export.fidelity.anomaly_folder import read_folder

    return read_folder(test)


def _judged(task: Task, shots: tuple[Shot, ...]) -> list[Judged]:
    from jetlift.export.fidelity.anomaly_folder import judge_shots

    if not shots:
        return []
    with console.counting("test", len(shots)) as advance:
        return judge_shots(task, shots, advance)


def _told(head: AnomalyHead, out: Path, judged: list[Judged]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "out": str(out),
        "method": head.method,
        "precision": head.stamp.precision,
        "pictures": head.pictures,
        "skipped": head.skipped,
        "threshold": head.threshold.value,
        "notes": list(head.notes),
    }
    if judged:
        from jetlift.export.fidelity.anomaly_folder import by_defect, figures_of

        kinds = {name: dataclasses.asdict(each) for name, each in by_defect(judged).items()}
        told["test"] = {**dataclasses.asdict(figures_of(judged)), "by_defect": kinds}
    return told


def _say(judged: list[Judged]) -> None:
    from jetlift.export.fidelity.anomaly_folder import by_defect, figures_of

    figures = figures_of(judged)
    typer.echo(f"{_line('all', figures)}; {figures.false_alarms} false alarms")
    for name, each in by_defect(judged).items():
        typer.echo(_line(name, each))
    if figures.pixel_auroc is None:
        console.say("Not every defective picture has a mask, so no pixel AUROC.")


def _line(name: str, figures: AnomalyFigures) -> str:
    pixel = "" if figures.pixel_auroc is None else f", pixel AUROC {figures.pixel_auroc:.4f}"
    counts = f"{figures.pictures - figures.defective} good, {figures.defective} defective"
    return (
        f"{name}: image AUROC {figures.image_auroc:.4f}{pixel} ({counts}, {figures.missed} missed)"
    )
