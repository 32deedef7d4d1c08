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
from jetlift.cli.asked import Asked, chosen_engines
from jetlift.cli.clocks import FixClocksFlag, held_clocks
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
from jetlift.cli.live import (
    BatchOption,
    BatchWaitOption,
    BudgetOption,
    HangLimitOption,
    Live,
    LogOption,
    MaxAgeOption,
    MetricsOption,
    RecordOption,
    ToOption,
    ViewAtOption,
    ViewFlag,
    judged_only,
    live_of,
)
from jetlift.cli.opening import mark_of, open_bundle
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
from jetlift.cli.running import Run
from jetlift.cli.speech import LanguageOption, TranslateFlag, spoken
from jetlift.cli.verdicts import JunitOption, SummaryFlag, verdict_files
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
from jetlift.runtime.opening import Engines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.run import RunSummary


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
    to: ToOption = None,
    view: ViewFlag = False,
    view_at: ViewAtOption = None,
    metrics: MetricsOption = None,
    budget: BudgetOption = None,
    record: RecordOption = None,
    junit: JunitOption = None,
    github_summary: SummaryFlag = False,
    fix_clocks: FixClocksFlag = False,
    batch: BatchOption = 1,
    batch_wait: BatchWaitOption = 0.0,
    max_age: MaxAgeOption = None,
    hang_limit: HangLimitOption = None,
    log: LogOption = "text",
    threads: ThreadsOption = None,
    allow_random: AllowRandomFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Run inputs through a bundle: pictures, sound or text, as its task takes them.

    Without -o, --to and --view the results go to stdout, one JSON object per line; on a terminal, a
    text that is generated appears as it is written. docs/sources.md has every kind of input.
    """
    what = What(bundle, task, part, Engines(target, precision, threads), fit, index, allow_random)
    said = Said(
        Words(tuple(prompt or ()), tuple(template or ()), prompts),
        Imaging(negative, steps, guidance, strength, mask, scheduler, step_images, count),
        Writing(temperature, top_p, None, max_tokens, tuple(stop or ()), chat, system),
        spoken(language, translate=translate), seed, top_k,
    )  # fmt: skip
    ages = (batch, batch_wait, max_age, hang_limit)
    live = live_of(to, view_at if view_at is not None else "" if view else None, metrics,
                   budget, record, ages, log)  # fmt: skip
    live = replace(live, verdict=verdict_files(budget, junit, summary=github_summary))
    with held_clocks(wanted=judged_only(live, fix_clocks=fix_clocks)):
        _run(what, said, Ends(tuple(inputs), limit, out, live, as_json))


@dataclass(frozen=True)
class What:
    """What a user wants to run, and on which engines."""

    folder: Path
    task: str | None
    part: str | None
    engines: Engines
    fit: Path | None
    index: Path | None
    allow_random: bool


@dataclass(frozen=True)
class Ends:
    """Where a run's inputs come from and its results go."""

    inputs: tuple[str, ...]
    limit: int | None
    out: Path | None
    live: Live
    as_json: bool


def _run(what: What, said: Said, ends: Ends) -> None:
    """Open all that was asked for, run it, and tell what came of it."""
    from jetlift.runtime.folder_sink import refuse_taken
    from jetlift.runtime.opening import open_artefacts

    if ends.out is not None:
        refuse_taken(ends.out)  # before engines are loaded, which takes a while
    artefacts, fixed = open_artefacts(what.fit, what.index)
    engines = replace(what.engines, precision=what.engines.precision or fixed)
    opened = open_bundle(what.folder, allow_random=what.allow_random)
    name = what.task or (opened.manifest.tasks or ("embed",))[0]
    engines = chosen_engines(opened, name, what.part, engines)
    artefacts |= said.for_task(opened, name, engines)
    on_text = stream_for(name, ends.out, as_json=ends.as_json)
    if on_text is not None:
        artefacts["on_text"] = on_text
    streams = on_text is not None
    asked = Asked(
        opened, name, what.part, engines, artefacts, ends.inputs, ends.limit, ends.out, ends.live,
        reopen=lambda: open_bundle(what.folder, allow_random=what.allow_random),
        show=_shown(ends, streams=streams), mark=mark_of(opened),
    )  # fmt: skip
    with Run(asked) as run, _counting(name, run.count, streams=streams) as advance:
        summary = run.go(advance)
    _tell_done(summary, as_json=ends.as_json)


@dataclass(frozen=True)
class Said:
    """What a user says to a task, whichever it is."""

    words: Words
    imaging: Imaging
    writing: Writing
    speech: dict[str, Any]
    seed: int | None
    top_k: int | None

    def for_task(self, bundle: Bundle, name: str, engine: Engines) -> dict[str, Any]:
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
            | self.speech
            | writing_artefacts(name, writing, self.top_k)
        )


def _shown(ends: Ends, *, streams: bool) -> Callable[[Mapping[str, object]], None] | None:
    """What shows each result on standard output; None where it goes elsewhere."""
    if ends.out is not None or ends.live.to or ends.live.view is not None:
        return None
    return _end_line if streams else _show_line


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


def _show_line(fields: Mapping[str, object]) -> None:
    typer.echo(json.dumps(fields, ensure_ascii=False, allow_nan=False))


def _end_line(_fields: Mapping[str, object]) -> None:
    typer.echo()


def _counting(
    name: str, count: int | None, *, streams: bool
) -> contextlib.AbstractContextManager[Callable[[], None] | None]:
    """Progress, but where it would write between the words of a text."""
    return contextlib.nullcontext() if streams else console.counting(name, count)
