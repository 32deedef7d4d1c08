"""The commands that search among the user's own data: index, search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.opening import mark_of, open_bundle, opened_session, session_of
from jetlift.cli.options import (
    AllowRandomFlag,
    BundleArgument,
    PartOption,
    PrecisionOption,
    TargetOption,
    ThreadsOption,
    TopKOption,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.run import Inputs, RunSummary
    from jetlift.runtime.tasks.search_build import Method
    from jetlift.runtime.tasks.search_index import Index

_METHODS = ("exact", "approximate")


@app.command(epilog="Example: jetlift index dinov2 pictures/ -o pictures.index")
def index(
    bundle: BundleArgument,
    inputs: Annotated[list[str], typer.Argument(help="Folder of pictures, or texts.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the index.")],
    *,
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            "--add",
            help="Bring the index up to date: new files come, changed ones are encoded again, "
            "those that are no longer there go.",
        ),
    ] = False,
    method: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--method",
            help="exact: compare every entry; approximate: read the nearest lists (FAISS). If not "
            "given, approximate from 100,000 entries on.",
        ),
    ] = None,
    part: PartOption = None,
    precision: PrecisionOption = None,
    target: TargetOption = "cpu",
    threads: ThreadsOption = None,
    allow_random: AllowRandomFlag = False,
) -> None:
    """Make a search index of your own pictures or texts, or bring one up to date."""
    from jetlift.runtime.tasks.search_build import check_method

    chosen_method = _method_of(method)
    check_method(chosen_method)
    how = {"target": target, "threads": threads, "part": part, "allow_random": allow_random}
    if update:
        _update(bundle, inputs, out, chosen_method, precision, how)
    else:
        _make(bundle, inputs, out, chosen_method, precision, how)


def _make(
    folder: Path,
    inputs: list[str],
    out: Path,
    method: Method | None,
    precision: str | None,
    how: Mapping[str, Any],
) -> None:
    from jetlift.runtime.run import open_inputs
    from jetlift.runtime.tasks.search_build import build_index
    from jetlift.runtime.tasks.search_store import refuse_existing

    refuse_existing(out)  # before hours of encoding
    notices: list[str] = []
    with (
        opened_session(
            folder, precision, how["target"], how["threads"], part=how["part"],
            allow_random=how["allow_random"],
        ) as (opened, name, chosen, session),
        open_inputs(opened, name, inputs) as source,
        console.counting("index", source.count) as advance,
    ):  # fmt: skip
        made = build_index(
            opened, session, source,
            precision=chosen, target=how["target"], part=name, method=method,
            progress=lambda _done: advance(), notices=notices,
        )  # fmt: skip
        _tell(notices, source)
    made.save(out)
    console.say(f"{len(made)} entries. Written: {out}")


def _update(
    folder: Path,
    inputs: list[str],
    out: Path,
    method: Method | None,
    precision: str | None,
    how: Mapping[str, Any],
) -> None:
    from jetlift.runtime.errors import UsageError
    from jetlift.runtime.tasks import artefact
    from jetlift.runtime.tasks.search_build import Encoded, notices_of, updated
    from jetlift.runtime.tasks.search_index import Index
    from jetlift.runtime.tasks.search_store import read_head, sole_writer
    from jetlift.runtime.tasks.search_update import changes

    stamp = read_head(out).stamp
    opened = open_bundle(folder, allow_random=how["allow_random"])
    for what, asked, made in (
        ("--part", how["part"], stamp.part),
        ("--precision", precision, stamp.precision),
    ):
        if asked is not None and asked != made:
            raise UsageError(f"The index was made with {made}, and {what} is {asked}")
    artefact.check_stamp(stamp, opened, stamp.part, stamp.precision, "The search index")
    with sole_writer(out):
        old = Index.load(out, to_change=True)
        is_text = _takes_text(opened, stamp.part)
        found = changes(inputs, old.tables.files, len(old), texts=is_text)
        new = Encoded([], [], [])
        if found.encode:
            new = _encoded(opened, [str(path) for path in found.encode], stamp, how)
        if found.dropped.any() or new.lines or method not in (None, old.head.method):
            made_now = updated(old, found.dropped, new, method).write(out)
            for notice in notices_of(made_now, method):
                console.say(notice)
        else:
            made_now = old
    console.say(
        f"{found.added} files new, {found.changed} changed, {found.gone} gone, {found.kept} kept. "
        f"{len(made_now)} entries. Written: {out}"
    )


def _encoded(opened: Bundle, names: list[str], stamp: Any, how: Mapping[str, Any]) -> Any:  # noqa: ANN401
    from jetlift.runtime.errors import InputError
    from jetlift.runtime.run import open_inputs
    from jetlift.runtime.tasks.encoder import Encoder
    from jetlift.runtime.tasks.search_build import Encoded, encode_all

    with (
        session_of(opened, stamp.part, stamp.precision, how["target"], how["threads"]) as (
            _,
            session,
        ),
        open_inputs(opened, stamp.part, names) as source,
        console.counting("index", source.count) as advance,
    ):
        encoder = Encoder(opened, session, stamp.part)
        try:
            new = encode_all(encoder, source, lambda _done: advance())
        except InputError:
            if len(source.skipped) < len(names):
                raise
            new = Encoded([], [], [], skipped=len(names))  # none is readable: each is named below
        _tell(new.notes, source)
    return new


@app.command(epilog="Example: jetlift search pictures.index query.jpg -o found")
def search(
    index_folder: Annotated[
        Path, typer.Argument(metavar="INDEX", help="Index made by 'jetlift index'.")
    ],
    inputs: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Pictures, .txt files, or texts of several words, to look for."),
    ] = None,
    *,
    text: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--text", help="Words to look for, or a .txt file with one text per line."),
    ] = None,
    top_k: TopKOption = None,
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--bundle", help="The bundle, if it is no longer where the index was made."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", help="Folder for results.jsonl, a page and contact sheets."),
    ] = None,
    threads: ThreadsOption = None,
    allow_random: AllowRandomFlag = False,
) -> None:
    """Find the nearest entries of an index, by picture or by words.

    Pictures are searched by words where the model compares both, as CLIP does.
    """
    from jetlift.runtime.run import run_task
    from jetlift.runtime.tasks import open_task
    from jetlift.runtime.tasks.search_index import Index
    from jetlift.runtime.tasks.search_query import part_of, queries_of

    loaded = Index.load(index_folder)
    stamp = loaded.head.stamp
    opened = open_bundle(bundle or Path(stamp.bundle_folder), allow_random=allow_random)
    part = part_of(opened, stamp.part, inputs or (), text or ())
    precision = stamp.precision if part == stamp.part else None
    kept: list[Mapping[str, Any]] = []
    with (
        session_of(opened, part, precision, stamp.target, threads) as (chosen, session),
        queries_of(opened, part, inputs or (), text or ()) as source,
        console.counting("search", source.count) as advance,
    ):
        count = {} if top_k is None else {"count": top_k}
        task = open_task(
            "search", opened, session, precision=chosen, part=part, index=loaded, **count
        )
        show = _show_line if out is None else kept.append
        mark = mark_of(opened)
        summary = run_task(task, source, out=out, show=show, advance=advance, mark=mark)
    _finish(summary, kept, loaded, mark)


def _finish(
    summary: RunSummary,
    kept: list[Mapping[str, Any]],
    index: Index,
    mark: Mapping[str, str],
) -> None:
    from jetlift.runtime.tasks.search_page import PAGE_NAME, write_page

    for skipped, reason in summary.skipped:
        console.say(f"Skipped {skipped}: {reason}")
    for note in summary.notes:
        console.say(note)
    if summary.out is not None:
        page = summary.out / PAGE_NAME
        warning = "The weights are random, so no answer is one." if mark else ""
        write_page(page, kept, index.head, total=len(kept), warning=warning)
        console.say(f"{summary.done} done, {len(summary.skipped)} skipped. Page: {page}")


def _show_line(fields: Mapping[str, object]) -> None:
    typer.echo(json.dumps(fields, ensure_ascii=False, allow_nan=False))


def _tell(notices: Any, source: Inputs) -> None:  # noqa: ANN401 - a list or a tuple
    for notice in notices:
        console.say(notice)
    for skipped in getattr(source, "skipped", ()):
        console.say(f"Skipped {skipped.source}: {skipped.reason}")


def _takes_text(bundle: Bundle, part: str) -> bool:
    from jetlift.runtime.manifest import TextPreprocess

    return isinstance(bundle.part(part)[1].preprocess, TextPreprocess)


def _method_of(name: str | None) -> Method | None:
    from jetlift.runtime.errors import UnknownNameError

    if name is not None and name not in _METHODS:
        raise UnknownNameError(f"Got --method {name}", expected=f"One of {', '.join(_METHODS)}")
    return name  # type: ignore[return-value]
