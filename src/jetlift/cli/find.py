"""The commands that search among the user's own data: index, search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.opening import opened_session
from jetlift.cli.options import (
    AllowRandomFlag,
    BundleArgument,
    PartOption,
    PrecisionOption,
    TargetOption,
    ThreadsOption,
)


@app.command(epilog="Example: jetlift index dinov2 pictures/ -o pictures.index")
def index(
    bundle: BundleArgument,
    inputs: Annotated[list[str], typer.Argument(help="Folder of pictures, or texts.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the index.")],
    *,
    part: PartOption = None,
    precision: PrecisionOption = None,
    target: TargetOption = "cpu",
    threads: ThreadsOption = None,
    allow_random: AllowRandomFlag = False,
) -> None:
    """Make a search index of your own pictures or texts."""
    from jetlift.runtime.run import open_inputs
    from jetlift.runtime.tasks.search import build_index

    notices: list[str] = []
    with (
        opened_session(
            bundle, precision, target, threads, part=part, allow_random=allow_random
        ) as (
            opened,
            name,
            chosen,
            session,
        ),
        open_inputs(opened, name, inputs) as source,
        console.counting("index", source.count) as advance,
    ):
        made = build_index(
            opened, session, source,
            precision=chosen, target=target, part=name, progress=lambda _done: advance(),
            notices=notices,
        )  # fmt: skip
        for notice in notices:
            console.say(notice)
        for skipped in getattr(source, "skipped", ()):
            console.say(f"Skipped {skipped.source}: {skipped.reason}")
    made.save(out)
    console.say(f"{len(made.head.entries)} entries. Written: {out}")


@app.command(epilog="Example: jetlift search pictures.index query.jpg -o found")
def search(
    index_file: Annotated[
        Path, typer.Argument(metavar="INDEX", help="Index made by 'jetlift index'.")
    ],
    inputs: Annotated[list[str], typer.Argument(help="Pictures, or .txt files, to look for.")],
    *,
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--bundle", help="The bundle, if it is no longer where the index was made."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", help="Folder for results.jsonl and contact sheets."),
    ] = None,
    threads: ThreadsOption = None,
    allow_random: AllowRandomFlag = False,
) -> None:
    """Find the nearest entries of an index for each input."""
    from jetlift.cli.run import run
    from jetlift.runtime.tasks.search import Index

    made_by = Index.load(index_file).head.stamp
    run(
        bundle or Path(made_by.bundle_folder), inputs, task="search", precision=made_by.precision,
        target=made_by.target, index=index_file, out=out, threads=threads,
        part=made_by.part, allow_random=allow_random,
    )  # fmt: skip
