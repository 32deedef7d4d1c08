"""Commands that use a bundle on the user's own data: run, fit, index, search."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.options import (
    BundleArgument,
    JsonFlag,
    PrecisionOption,
    TargetOption,
    ThreadsOption,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.run import RunSummary
    from jetlift.runtime.session.base import Session


@app.command(epilog="Example: jetlift run dinov2 pictures/ --task embed -o results")
def run(
    bundle: BundleArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, globs, videos, /dev/video0, sound; .txt or - for text."
        ),
    ],
    *,
    task: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--task", help="What to do; the bundle's first task if not given."),
    ] = None,
    precision: PrecisionOption = None,
    target: TargetOption = "cpu",
    fit: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--fit", help="Anomaly model made by 'jetlift fit'."),
    ] = None,
    index: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--index", help="Search index made by 'jetlift index'."),
    ] = None,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--limit", min=1, help="Stop after this many inputs (a camera never ends)."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", help="Folder for results.jsonl, arrays and pictures."),
    ] = None,
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run inputs through a bundle: embed, search, anomaly, detect or transcribe.

    Without -o the results go to stdout, one JSON object per line.
    """
    from jetlift.runtime.run import open_inputs, run_task
    from jetlift.runtime.tasks import needs_every_part, open_task

    name = task
    artefacts = _artefacts(fit, index)
    if precision is None and artefacts:  # their numbers were made at one precision
        precision = next(iter(artefacts.values())).head.stamp.precision
    with (
        _session(bundle, precision, target, threads) as (opened, part, chosen, session),
        contextlib.ExitStack() as stack,
    ):
        if name is None:
            name = opened.manifest.tasks[0] if opened.manifest.tasks else "embed"
        if needs_every_part(name):
            how = {"target": target, "threads": threads}
            artefacts["others"] = _other_sessions(opened, part, precision, how, stack)
        bound = open_task(name, opened, session, precision=chosen, part=part, **artefacts)
        show = None if out is not None else _show_line
        with (
            open_inputs(opened, part, inputs, limit=limit) as source,
            console.counting(name, source.count) as advance,
        ):
            summary = run_task(bound, source, out=out, show=show, advance=advance)
    _tell_done(summary, as_json=as_json)


def _tell_done(summary: RunSummary, *, as_json: bool) -> None:
    for skipped, reason in summary.skipped:
        console.say(f"Skipped {skipped}: {reason}")
    if summary.out is None:
        return
    if as_json:
        told = {"done": summary.done, "skipped": [list(item) for item in summary.skipped]}
        console.show_json({**told, "out": str(summary.out)})
    else:
        console.say(f"{summary.done} done, {len(summary.skipped)} skipped. Results: {summary.out}")


def _other_sessions(
    bundle: Bundle,
    part: str,
    precision: str | None,
    how: Mapping[str, Any],
    stack: contextlib.ExitStack,
) -> dict[str, Session]:
    """Sessions of all parts but one; the stack closes them."""
    from jetlift.runtime.choice import choose_precision
    from jetlift.runtime.session import open_session

    sessions = {}
    for other in bundle.manifest.parts:
        if other != part:
            chosen = precision or choose_precision(bundle, other, how["target"])
            sessions[other] = stack.enter_context(open_session(bundle, other, chosen, **how))
    return sessions


def _artefacts(fit: Path | None, index: Path | None) -> dict[str, Any]:
    """The files made on the user's own data, opened, by the name the tasks give them."""
    from jetlift.runtime.tasks.anomaly import AnomalyModel
    from jetlift.runtime.tasks.search import Index

    opened: dict[str, Any] = {}
    if fit is not None:
        opened["fit"] = AnomalyModel.load(fit)
    if index is not None:
        opened["index"] = Index.load(index)
    return opened


def _show_line(fields: Mapping[str, object]) -> None:
    typer.echo(json.dumps(fields, ensure_ascii=False, allow_nan=False))


def _input_part(bundle: Bundle) -> str:
    """The part that takes raw input: the only one there is, or the only one with preprocessing."""
    parts = bundle.manifest.parts
    able = [name for name, part in parts.items() if part.preprocess is not None]
    return bundle.part(able[0] if len(able) == 1 else None)[0]


@contextlib.contextmanager
def _session(
    folder: Path, precision: str | None, target: str, threads: int | None
) -> Iterator[tuple[Bundle, str, str, Session]]:
    """Open a bundle and a session of its input part, and tell what the user should know.

    Yields:
        The bundle, the part, the variant, and the session.
    """
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.choice import choose_precision
    from jetlift.runtime.session import open_session

    opened = Bundle.open(folder)
    part = _input_part(opened)
    chosen = precision or choose_precision(opened, part, target)
    notices: list[str] = []
    if target == "cpu" and not opened.engine_path(target, part, chosen).exists():
        console.say(
            f"No engine is built for cpu, so the {chosen} graph is compiled now. "
            f"To keep one: jetlift build {folder}"
        )
    with open_session(
        opened, part, chosen, target=target, threads=threads, notices=notices
    ) as session:
        for notice in notices:
            console.say(notice)
        yield opened, part, chosen, session


@app.command(epilog="Example: jetlift fit dinov2 good-pictures/ -o bricks.fit")
def fit(
    bundle: BundleArgument,
    good: Annotated[str, typer.Argument(help="Folder of pictures without defects.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the anomaly model.")],
    *,
    precision: PrecisionOption = None,
    target: TargetOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Learn what good pictures look like (PaDiM), for 'jetlift run --task anomaly'."""
    from jetlift.runtime.sources import open_source
    from jetlift.runtime.tasks.anomaly_fit import fit as fit_model

    with (
        _session(bundle, precision, target, threads) as (opened, part, chosen, session),
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


@app.command(epilog="Example: jetlift index dinov2 pictures/ -o pictures.index")
def index(
    bundle: BundleArgument,
    inputs: Annotated[list[str], typer.Argument(help="Folder of pictures, or texts.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the index.")],
    *,
    precision: PrecisionOption = None,
    target: TargetOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Make a search index of your own pictures or texts."""
    from jetlift.runtime.run import open_inputs
    from jetlift.runtime.tasks.search import build_index

    with (
        _session(bundle, precision, target, threads) as (opened, part, chosen, session),
        open_inputs(opened, part, inputs) as source,
        console.counting("index", source.count) as advance,
    ):
        made = build_index(
            opened, session, source,
            precision=chosen, target=target, part=part, progress=lambda _done: advance(),
        )  # fmt: skip
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
) -> None:
    """Find the nearest entries of an index for each input."""
    from jetlift.runtime.tasks.search import Index

    made_by = Index.load(index_file).head.stamp
    run(
        bundle or Path(made_by.bundle_folder), inputs, task="search", precision=made_by.precision,
        target=made_by.target, index=index_file, out=out, threads=threads,
    )  # fmt: skip
