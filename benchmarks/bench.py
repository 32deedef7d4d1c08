"""The bench: every variant of a bundle measured on this machine, and the record of it.

Rules:
    N1  The machine is looked at before anything of ours keeps it busy.
    N2  Order: the machine's peak, every part and variant, then every one again, briefly and in
        fresh processes. A variant whose median moved, or beside which other processes took the
        cores, is marked noisy with the reason; its figures stay.
    N3  A variant that this machine cannot measure (too large, crashed) is told among `failed` and
        the others go on. Where none could be measured, the first failure is raised.
    N4  An artefact that is refused and a wrong call stop the bench at once.
    N5  Fidelity is the bundle's own figure; where the bundle has none, the record says so.
    N6  What is asked for beyond (cold starts, sweeps, scenarios, layers) comes last, of the
        variants that could be measured (rules A1 to A5 of more.py, Y1 to Y4 of layers.py).
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.benchmarks import measure, report
from jetlift.benchmarks.bench_budget import asked_more, held, where
from jetlift.benchmarks.bench_repeat import SAMPLES, command_line, inputs_of, packages, settings_of
from jetlift.benchmarks.board_peak import present_peak
from jetlift.benchmarks.layers import with_layers
from jetlift.benchmarks.loadgen import loadgen
from jetlift.benchmarks.more import Found, More, Subject, measure_more
from jetlift.benchmarks.more_said import more_not_shown
from jetlift.benchmarks.peak import SIZES
from jetlift.benchmarks.results import compose, not_shown
from jetlift.benchmarks.stop import StopRules, brief
from jetlift.jetson import board
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import MachineError, UnknownNameError, UsageError
from jetlift.runtime.record import SCHEMA_VERSION, Failed, Peak, Recheck, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jetlift.benchmarks.measure import VariantAnswer
    from jetlift.runtime.budget_form import BudgetFile

    Progress = Callable[[str, float], None]

_SEED = 0
_PEAK_S = 3.0
_COPY_BYTES: int | None = None  # as large as this machine's caches ask for
_PEAK_LIMIT_S = 300.0
_NO_MORE = More()


def bench(
    bundle: Bundle | Path | str,
    *,
    target: str = "cpu",
    precisions: Sequence[str] | None = None,
    threads: int | None = None,
    samples: Path | None = None,
    out: Path | None = None,
    time_limit_s: float = StopRules.time_limit_s,
    rules: StopRules | None = None,
    command: str | None = None,
    gallery: Sequence[tuple[Path, str]] = (),
    progress: Progress | None = None,
    budget: BudgetFile | None = None,
    more: More = _NO_MORE,
    layers: bool = False,
) -> Record:
    """Measure a bundle's variants on this machine (rules N1 to N6).

    Args:
        bundle: The bundle, or its folder.
        target: Target whose engines are measured.
        precisions: Variants to measure; None for all.
        threads: Threads to compute with; None leaves it to the engine library.
        samples: Real samples to feed, as `jetlift export --samples` takes them; None feeds seeded
            random arrays.
        out: Folder for record.json, report.html and report.md; None writes nothing.
        time_limit_s: Seconds of timed runs per variant at most.
        rules: All limits at once, in place of `time_limit_s`.
        command: The command line to tell in 'how to repeat'; None composes one.
        gallery: Pictures (PNG or JPEG path, caption) to embed in report.html.
        progress: Called with a stage's name and the share of all stages done, 0..1.
        more: Cold starts, sweeps and scenarios that are asked for.
        budget: Limits to hold it against; the verdict becomes part of the record. What it limits
            is measured, so one of cold starts asks for them (rule J6 of bench_budget.py).
        layers: Whether layers are timed, in runs of their own.

    Raises:
        JetliftError: The bundle is refused, a name is unknown, or nothing could be measured.
    """
    if out is not None:
        report.check(out, gallery)  # before minutes are spent
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if more.scenarios:
        loadgen()  # missing, it is told before minutes are spent
    rules = rules or StopRules(time_limit_s=time_limit_s)
    more = asked_more(more, budget)
    plan = _Plan(
        bundle=opened,
        target=target,
        threads=threads,
        rules=rules,
        chosen=_choose(opened, precisions),
        inputs=inputs_of(samples, _SEED),
        command=command
        or command_line(opened, target, precisions, threads, rules, samples, out, more),
        more=more,
        layers=layers,
        progress=progress or _tell_nobody,
    )
    record = _measured(plan, samples)
    if layers:
        record = with_layers(record, opened, threads=threads, seed=_SEED, tell=plan.tell)
    if budget is not None:
        device, power_mode = where()
        record = held(record, budget, device=device, power_mode=power_mode)
    if out is not None:
        plan.tell("write the report")
        report.write_report(record, out, gallery=gallery)
    return record


@dataclass
class _Plan:
    """What is to be measured, and how far it got."""

    bundle: Bundle
    target: str
    threads: int | None
    rules: StopRules
    chosen: tuple[tuple[str, str], ...]
    inputs: str
    command: str
    progress: Progress
    more: More
    layers: bool = False
    done: int = 0

    @property
    def on_cpu(self) -> bool:
        """Whether the processor computes."""
        return self.target.startswith("cpu")

    def tell(self, stage: str) -> None:
        """Tell the next stage: two at the start, two and more per variant, the report."""
        per_variant = 2 + self.more.steps() + self.layers
        self.progress(stage, self.done / (3 + per_variant * len(self.chosen)))
        self.done += 1

    def answer(
        self, pair: tuple[str, str], fed: Mapping[str, Path], rules: StopRules
    ) -> VariantAnswer:
        """Measure one variant in a child."""
        part, variant = pair
        job = measure.VariantJob(
            job="variant",
            bundle=str(self.bundle.folder),
            part=part,
            variant=variant,
            target=self.target,
            threads=self.threads,
            rules=rules,
            seed=_SEED,
            samples=str(fed[part]) if part in fed else None,
        )
        return measure.run_child(job, measure.VariantAnswer, limit_s=measure.patience_s(rules))


def _measured(plan: _Plan, samples: Path | None) -> Record:
    began = dt.datetime.now(dt.timezone.utc)
    plan.tell("look at this machine")
    machine = board.describe_machine()  # N1
    plan.tell("this machine's peak")
    reached, peak_note = _peak(plan)
    with tempfile.TemporaryDirectory(prefix="jetlift-bench-") as scratch:
        fed = _prepare_samples(plan, samples, Path(scratch))
        answers, failed = _measure_all(plan, fed)
        rechecks = _recheck_all(plan, answers, fed)
    if not plan.on_cpu:  # what the processor reaches is no roof of a GPU's
        seen = [answer.conditions for answer in answers.values()]
        reached, peak_note = present_peak(*where(), seen)
    found = Found()
    for pair in answers:  # N6
        subject = Subject(plan.bundle, *pair, plan.target, plan.threads, _SEED)
        measure_more(plan.more, subject, found, plan.tell)
    results = tuple(
        compose(
            plan.bundle, *pair, answer, recheck=rechecks[pair], reached=reached, machine=machine
        )
        for pair, answer in answers.items()
    )
    return Record(
        schema_version=SCHEMA_VERSION,
        jetlift=importlib.metadata.version("jetlift"),
        measured_utc=began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=plan.command,
        packages=packages(results),
        model=plan.bundle.manifest.model,
        bundle_sha256=plan.bundle.sha256,
        weights=plan.bundle.manifest.weights,
        target=plan.target,
        machine=machine,
        settings=settings_of(plan.rules, plan.threads, _SEED, plan.inputs),
        peak=reached,
        peak_note=peak_note,
        results=results,
        failed=failed,
        noisy=any(result.noisy for result in results),
        not_shown=(
            *not_shown(plan.target, results, random_inputs=samples is None),
            *more_not_shown(found, results),
        ),
        sweep=tuple(found.sweep),
        scenarios=tuple(found.scenarios),
        cold_starts=tuple(found.cold_starts),
        not_done=tuple(found.not_done),
    )


def _choose(bundle: Bundle, precisions: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    parts = bundle.manifest.parts
    every = list(dict.fromkeys(name for part in parts.values() for name in part.variants))
    for name in precisions or ():
        if name not in every:
            raise UnknownNameError(
                f"{bundle.manifest.model} has no {name} variant",
                expected=f"One of {', '.join(every)}",
            )
    chosen = tuple(
        (part_name, variant)
        for part_name, part in parts.items()
        for variant in part.variants
        if precisions is None or variant in precisions
    )
    if not chosen:
        raise UsageError("No variant is left to measure", expected=f"One of {', '.join(every)}")
    return chosen


def _peak(plan: _Plan) -> tuple[Peak | None, str]:
    if not plan.on_cpu:
        return None, ""
    job = measure.PeakJob(
        job="peak", threads=plan.threads, time_limit_s=_PEAK_S, sizes=SIZES, copy_bytes=_COPY_BYTES
    )
    try:
        return measure.run_child(job, Peak, limit_s=_PEAK_LIMIT_S), ""
    except MachineError as error:
        return None, str(error)


def _prepare_samples(plan: _Plan, folder: Path | None, scratch: Path) -> dict[str, Path]:
    """Prepared inputs per part in files that children read; empty without samples."""
    if folder is None:
        return {}
    from jetlift.export import recipes

    fed = {}
    for part in dict.fromkeys(part for part, _ in plan.chosen):
        split = recipes.samples_for(plan.bundle, part, folder)
        fed[part] = scratch / f"{part}.npz"
        measure.save_samples(fed[part], split.report.feeds[:SAMPLES])
    return fed


def _measure_all(
    plan: _Plan, fed: Mapping[str, Path]
) -> tuple[dict[tuple[str, str], VariantAnswer], tuple[Failed, ...]]:
    answers: dict[tuple[str, str], VariantAnswer] = {}
    failures: list[tuple[Failed, MachineError]] = []
    for pair in plan.chosen:
        plan.tell(" ".join(pair))
        try:
            answers[pair] = plan.answer(pair, fed, plan.rules)
        except MachineError as error:  # N3
            failures.append((Failed(*pair, reason=str(error)), error))
    if not answers and failures:
        raise failures[0][1]
    return answers, tuple(failed for failed, _ in failures)


def _recheck_all(
    plan: _Plan, answers: Mapping[tuple[str, str], VariantAnswer], fed: Mapping[str, Path]
) -> dict[tuple[str, str], Recheck | None]:
    """Measure every variant again, briefly (rule N2); None where that failed."""
    rechecks: dict[tuple[str, str], Recheck | None] = {}
    for pair, first in answers.items():
        plan.tell(f"{' '.join(pair)} again")
        try:
            again = plan.answer(pair, fed, brief(plan.rules)).latency
        except MachineError:  # the first measuring stands, and the result is marked
            rechecks[pair] = None
            continue
        moved = (again.p50_ms / first.latency.p50_ms - 1) * 100
        rechecks[pair] = Recheck(len(again.samples_ms), again.p50_ms, round(moved, 2))
    return rechecks


def _tell_nobody(_stage: str, _share: float) -> None:
    return
