"""Commands that use a bundle on the user's own data: run, fit, index, search."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.opening import input_part, mark_of, open_bundle, session_of
from jetlift.cli.options import (
    AllowRandomFlag,
    BundleArgument,
    FitOption,
    IndexOption,
    InputsArgument,
    JsonFlag,
    LimitOption,
    PartOption,
    PrecisionOption,
    PromptOption,
    PromptsFileOption,
    ResultsOption,
    TargetOption,
    TaskOption,
    TemplateOption,
    ThreadsOption,
    TopKOption,
)
from jetlift.cli.speech import LanguageOption, TranslateFlag, spoken
from jetlift.cli.words import Words, for_task
from jetlift.cli.writing import (
    ChatFlag,
    MaxTokensOption,
    SeedOption,
    StopOption,
    SystemOption,
    TemperatureOption,
    TopPOption,
    Writing,
    stream_for,
)
from jetlift.cli.writing import artefacts as writing_artefacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.run import RunSummary
    from jetlift.runtime.session.base import Session


@app.command(epilog="Example: jetlift run dinov2 pictures/ --task embed -o results")
def run(
    bundle: BundleArgument,
    inputs: InputsArgument,
    *,
    task: TaskOption = None,
    part: PartOption = None,
    precision: PrecisionOption = None,
    target: TargetOption = "cpu",
    fit: FitOption = None,
    index: IndexOption = None,
    prompt: PromptOption = None,
    template: TemplateOption = None,
    prompts: PromptsFileOption = None,
    top_k: TopKOption = None,
    temperature: TemperatureOption = None,
    top_p: TopPOption = None,
    seed: SeedOption = None,
    max_tokens: MaxTokensOption = None,
    stop: StopOption = None,
    chat: ChatFlag = False,
    system: SystemOption = None,
    language: LanguageOption = None,
    translate: TranslateFlag = False,
    limit: LimitOption = None,
    out: ResultsOption = None,
    threads: ThreadsOption = None,
    allow_random: AllowRandomFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Run inputs through a bundle: pictures, sound or text, as its task takes them.

    Without -o the results go to stdout, one JSON object per line; on a terminal, a text that is
    generated appears as it is written.
    """
    from jetlift.runtime.run import open_inputs, run_task
    from jetlift.runtime.tasks import needs_every_part, open_task

    artefacts = _artefacts(fit, index)
    if precision is None and artefacts:  # their numbers were made at one precision
        precision = next(iter(artefacts.values())).head.stamp.precision
    opened = open_bundle(bundle, allow_random=allow_random)
    name = task or (opened.manifest.tasks or ("embed",))[0]
    words = Words(tuple(prompt or ()), tuple(template or ()), prompts)
    artefacts |= for_task(opened, name, words, precision, target, threads)
    writing = Writing(temperature, top_p, seed, max_tokens, tuple(stop or ()), chat, system)
    artefacts |= writing_artefacts(name, writing, top_k)
    artefacts |= spoken(language, translate=translate)
    if (on_text := stream_for(name, out, as_json=as_json)) is not None:
        artefacts["on_text"] = on_text
    part = input_part(opened, part)
    with (
        session_of(opened, part, precision, target, threads) as (chosen, session),
        contextlib.ExitStack() as stack,
    ):
        if needs_every_part(name):
            how = {"target": target, "threads": threads}
            artefacts["others"] = _other_sessions(opened, part, precision, how, stack)
        bound = open_task(name, opened, session, precision=chosen, part=part, **artefacts)
        show = None if out is not None else _end_line if on_text is not None else _show_line
        with (
            open_inputs(opened, part, inputs, limit=limit) as source,
            _counting(name, source.count, streams=on_text is not None) as advance,
        ):
            summary = run_task(
                bound, source, out=out, show=show, advance=advance, mark=mark_of(opened)
            )
    _tell_done(summary, as_json=as_json)


def _tell_done(summary: RunSummary, *, as_json: bool) -> None:
    for skipped, reason in summary.skipped:
        console.say(f"Skipped {skipped}: {reason}")
    for note in summary.notes:
        console.say(note)
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


def _end_line(_fields: Mapping[str, object]) -> None:
    typer.echo()


def _counting(
    name: str, count: int | None, *, streams: bool
) -> contextlib.AbstractContextManager[Callable[[], None] | None]:
    """Progress, but where it would write between the words of a text."""
    return contextlib.nullcontext() if streams else console.counting(name, count)


@contextlib.contextmanager
def _session(
    folder: Path,
    precision: str | None,
    target: str,
    threads: int | None,
    *,
    part: str | None = None,
    allow_random: bool = False,
) -> Iterator[tuple[Bundle, str, str, Session]]:
    """Open a bundle and a session of the part that takes its inputs.

    Yields:
        The bundle, the part, the variant, and the session.
    """
    opened = open_bundle(folder, allow_random=allow_random)
    name = input_part(opened, part)
    with session_of(opened, name, precision, target, threads) as (chosen, session):
        yield opened, name, chosen, session


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
        _session(bundle, precision, target, threads, allow_random=allow_random) as (
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
        _session(bundle, precision, target, threads, part=part, allow_random=allow_random) as (
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
    from jetlift.runtime.tasks.search import Index

    made_by = Index.load(index_file).head.stamp
    run(
        bundle or Path(made_by.bundle_folder), inputs, task="search", precision=made_by.precision,
        target=made_by.target, index=index_file, out=out, threads=threads,
        part=made_by.part, allow_random=allow_random,
    )  # fmt: skip
