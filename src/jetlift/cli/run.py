"""The command that runs inputs through a bundle."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.imaging import (
    TASKS as IMAGING_TASKS,
)
from jetlift.cli.imaging import (
    CountOption,
    GuidanceOption,
    Imaging,
    MaskOption,
    NegativeOption,
    SchedulerOption,
    StepImagesOption,
    StepsOption,
    StrengthOption,
)
from jetlift.cli.imaging import artefacts as imaging_artefacts
from jetlift.cli.opening import mark_of, open_bundle, session_of
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
    from collections.abc import Callable, Mapping, Sequence

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
    negative: NegativeOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    strength: StrengthOption = None,
    mask: MaskOption = None,
    scheduler: SchedulerOption = None,
    step_images: StepImagesOption = None,
    count: CountOption = None,
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
    artefacts = _artefacts(fit, index)
    if precision is None and artefacts:  # their numbers were made at one precision
        precision = next(iter(artefacts.values())).head.stamp.precision
    opened = open_bundle(bundle, allow_random=allow_random)
    name = task or (opened.manifest.tasks or ("embed",))[0]
    engine = Engine(precision, target, threads)
    said = Said(
        Words(tuple(prompt or ()), tuple(template or ()), prompts),
        Imaging(negative, steps, guidance, strength, mask, scheduler, step_images, count),
        Writing(temperature, top_p, None, max_tokens, tuple(stop or ()), chat, system),
        seed, top_k,
    )  # fmt: skip
    artefacts |= said.for_task(opened, name, engine) | spoken(language, translate=translate)
    if (on_text := stream_for(name, out, as_json=as_json)) is not None:
        artefacts["on_text"] = on_text
    summary = _process(opened, name, part, engine, artefacts, (inputs, limit, out))
    _tell_done(summary, as_json=as_json)


@dataclass(frozen=True)
class Engine:
    """Which engines to open."""

    precision: str | None
    target: str
    threads: int | None


@dataclass(frozen=True)
class Said:
    """What a user says to a task, whichever it is."""

    words: Words
    imaging: Imaging
    writing: Writing
    seed: int | None
    top_k: int | None

    def for_task(self, bundle: Bundle, name: str, engine: Engine) -> dict[str, Any]:
        """What the task takes of it.

        Raises:
            UsageError: Something was said that the task has no use for.
        """
        if name in IMAGING_TASKS:  # their prompts are not compared with anything
            prompts, words = self.words.prompts, replace(self.words, prompts=())
            made = imaging_artefacts(name, self.imaging, prompts, self.seed)
            writing = self.writing
        else:
            words, writing = self.words, replace(self.writing, seed=self.seed)
            made = imaging_artefacts(name, self.imaging, (), None)
        given = (engine.precision, engine.target, engine.threads)
        return (
            for_task(bundle, name, words, *given)
            | made
            | writing_artefacts(name, writing, self.top_k)
        )


def _process(
    bundle: Bundle,
    name: str,
    part: str | None,
    engine: Engine,
    artefacts: dict[str, Any],
    run: tuple[Sequence[str], int | None, Path | None],
) -> RunSummary:
    """Open the engines and the inputs, and run one through the other."""
    from jetlift.runtime.run import open_inputs, run_task
    from jetlift.runtime.tasks import input_part, needs_every_part, open_task, other_parts

    inputs, limit, out = run
    part = input_part(bundle, name, part)
    on_text = artefacts.get("on_text")
    opening = session_of(bundle, part, engine.precision, engine.target, engine.threads)
    with opening as (chosen, session), contextlib.ExitStack() as stack:
        if needs_every_part(name):
            others = other_parts(bundle, name, part)
            artefacts["others"] = _sessions(bundle, others, engine, stack)
        bound = open_task(name, bundle, session, precision=chosen, part=part, **artefacts)
        show = None if out is not None else _end_line if on_text is not None else _show_line
        with (
            open_inputs(bundle, part, inputs, limit=limit) as source,
            _counting(name, source.count, streams=on_text is not None) as advance,
        ):
            return run_task(
                bound, source, out=out, show=show, advance=advance, mark=mark_of(bundle)
            )


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


def _sessions(
    bundle: Bundle,
    parts: Sequence[str],
    engine: Engine,
    stack: contextlib.ExitStack,
) -> dict[str, Session]:
    """Sessions of the named parts; the stack closes them."""
    from jetlift.runtime.choice import choose_precision
    from jetlift.runtime.session import open_session

    sessions = {}
    for part in parts:
        chosen = engine.precision or choose_precision(bundle, part, engine.target)
        opening = open_session(bundle, part, chosen, target=engine.target, threads=engine.threads)
        sessions[part] = stack.enter_context(opening)
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
