"""The command that learns from good pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.opening import opened_session
from jetlift.cli.options import (
    AllowRandomFlag,
    BundleArgument,
    PrecisionOption,
    TargetOption,
    ThreadsOption,
)


@app.command(epilog="Example: jetlift fit dinov2 good-pictures/ -o bricks.fit")
def fit(
    bundle: BundleArgument,
    good: Annotated[str, typer.Argument(help="Folder of pictures without defects.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the anomaly model.")],
    *,
    precision: PrecisionOption = None,
    target: TargetOption = "cpu",
    threads: ThreadsOption = None,
    allow_random: AllowRandomFlag = False,
) -> None:
    """Learn what good pictures look like (PaDiM), for 'jetlift run --task anomaly'."""
    from jetlift.runtime.sources import open_source
    from jetlift.runtime.tasks.anomaly_fit import fit as fit_model

    with (
        opened_session(bundle, precision, target, threads, allow_random=allow_random) as (
            opened,
            part,
            chosen,
            session,
        ),
        open_source([good]) as source,
        console.counting("fit", source.count) as advance,
    ):
        model = fit_model(
            opened, session, source,
            precision=chosen, target=target, part=part, progress=lambda _done: advance(),
        )  # fmt: skip
        for skipped in source.skipped:
            console.say(f"Skipped {skipped.source}: {skipped.reason}")
    model.save(out)
    for note in model.head.notes:
        console.say(note)
    console.say(f"Threshold {model.head.threshold.value:.2f}. Written: {out}")
