"""From a bundle to a task with its engines: what the command line and `jetlift.load` both do.

Rules:
    O1  Where no variant is named, each part runs the one that earned its place on this machine
        (jetlift.runtime.choice). A file made on the user's own data fixes the variant: its numbers
        were made at one.
    O2  Weights drawn at random are refused, since their answers mean nothing, unless they are asked
        for; and then every result says so.
    O3  Every engine is timed, so that any run can be a record.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.runtime.choice import choose_precision
from jetlift.runtime.errors import ArtefactError, UsageError
from jetlift.runtime.figure import Figure
from jetlift.runtime.run_facts import RunEngine
from jetlift.runtime.session import CPU, open_session
from jetlift.runtime.session.timed import TimedSession
from jetlift.runtime.tasks import input_part, needs_every_part, open_task, other_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import ExitStack

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.prompts import Prompts
    from jetlift.runtime.tasks.base import Task

    Tell = Callable[[str], None]

# Tasks that compare with words, and what of the manifest says that a model can.
FOR_WORDS = {"classify": "zero_shot", "detect": "open_vocabulary"}
_IN_MEMORY = Figure.missing("no engine was loaded from disk; the graph was compiled in memory")


@dataclass(frozen=True)
class Engines:
    """Which engines are opened.

    Attributes:
        target: Where they run.
        precision: Variant of every part; None chooses (rule O1).
        threads: Threads of the processor to compute with; None leaves it to the library.
    """

    target: str = CPU
    precision: str | None = None
    threads: int | None = None


def refuse_random(bundle: Bundle, folder: Path | str, *, allow: bool, do: str) -> dict[str, str]:
    """What every result has to say of the weights (rule O2); nothing of trained ones.

    Args:
        bundle: The bundle.
        folder: How messages name it.
        allow: Whether random weights are wanted.
        do: What is to be done where they are not.

    Raises:
        ArtefactError: They are random and not wanted.
    """
    weights = bundle.manifest.weights
    if weights.random and not allow:
        raise ArtefactError(
            f"The weights of {folder} are random ({weights.source}), so its answers mean nothing",
            expected="A bundle of trained weights",
            do=do,
        )
    return {"weights": "random"} if weights.random else {}


def open_engine(bundle: Bundle, part: str, engines: Engines, tell: Tell) -> RunEngine:
    """Open one engine (rules O1 and O3); the caller closes its session.

    Args:
        bundle: A verified bundle.
        part: The part.
        engines: Which variant, and where.
        tell: Takes sentences the user should read, each before what takes long.

    Raises:
        JetliftError: As `open_session`.
    """
    target = engines.target
    chosen = engines.precision or choose_precision(bundle, part, target)
    path = bundle.engine_path(target, part, chosen)
    if target == CPU and not path.exists():
        tell(
            f"No engine is built for cpu, so the {chosen} graph is compiled now. "
            f"To keep one: jetlift build {bundle.folder}"
        )
    notices: list[str] = []
    began_s = time.perf_counter()
    session = open_session(
        bundle, part, chosen, target=target, threads=engines.threads, notices=notices
    )
    load_ms = (time.perf_counter() - began_s) * 1e3
    for notice in notices:
        tell(notice)
    size = Figure(path.stat().st_size) if path.is_file() else _IN_MEMORY
    return RunEngine(part, chosen, TimedSession(session), load_ms, size, tuple(notices))


def open_artefacts(
    fit: Path | str | None = None, index: Path | str | None = None
) -> tuple[dict[str, Any], str | None]:
    """The files made on the user's own data, and the variant that they fix (rule O1).

    Raises:
        InputError: There is no such file.
        ArtefactError: It is altered, or no such file.
    """
    from jetlift.runtime.tasks.anomaly import AnomalyModel
    from jetlift.runtime.tasks.search import Index

    opened: dict[str, Any] = {}
    if fit is not None:
        opened["fit"] = AnomalyModel.load(Path(fit))
    if index is not None:
        opened["index"] = Index.load(Path(index))
    fixed = next((item.head.stamp.precision for item in opened.values()), None)
    return opened, fixed


def takes_words(bundle: Bundle, task: str) -> bool:
    """Whether a task of this bundle compares with words that the user names."""
    return getattr(bundle.manifest, FOR_WORDS.get(task, ""), None) is not None


def check_words(task: str, *, given: bool) -> None:
    """Refuse words for a task that has no use for them.

    Raises:
        UsageError: They are given to one.
    """
    if given and task not in FOR_WORDS:
        raise UsageError(
            f"Task {task} got prompts", expected=f"Prompts for --task {' or '.join(FOR_WORDS)}"
        )


def compute_prompts(
    bundle: Bundle,
    words: Sequence[str],
    engines: Engines,
    tell: Tell,
    *,
    templates: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Prompts:
    """Features of words. The text part's engine is closed again before this returns.

    Args:
        bundle: A verified bundle.
        words: Words or phrases.
        engines: Which variant of the text part, and where.
        tell: Takes sentences the user should read.
        templates: Sentences to put them into; the model's own where there are none.
        progress: Called with the number done after each.

    Raises:
        UsageError: The model cannot, or words or templates are not as they should be.
        JetliftError: As `open_engine`.
    """
    from jetlift.runtime import prompts

    facts = prompts.words_of(bundle)
    prompts.clean_prompts(words)  # before an engine is opened for them
    engine = open_engine(bundle, facts.text, engines, tell)
    with engine.session:
        return prompts.build_prompts(
            bundle, engine.session, words, templates=templates,
            precision=engine.variant, target=engines.target, progress=progress,
        )  # fmt: skip


def open_bound(
    bundle: Bundle,
    name: str,
    engines: Engines,
    artefacts: Mapping[str, Any],
    stack: ExitStack,
    tell: Tell,
    *,
    part: str | None = None,
) -> tuple[Task, str, tuple[RunEngine, ...]]:
    """A task bound to engines of every part it needs.

    Args:
        bundle: A verified bundle.
        name: The task.
        engines: Which engines.
        artefacts: What the task takes beside them; see `open_task`.
        stack: Closes the engines.
        tell: Takes sentences the user should read.
        part: The part that takes the inputs, where several could.

    Returns:
        The task, the part that takes its inputs, and the engines, that part's first.

    Raises:
        JetliftError: As `open_engine` and `open_task`.
    """
    first = input_part(bundle, name, part)
    names = (first, *(other_parts(bundle, name, first)))
    opened: list[RunEngine] = []
    for each in names:
        opened.append(open_engine(bundle, each, engines, tell))
        stack.enter_context(opened[-1].session)
    given = dict(artefacts)
    if needs_every_part(name):
        given["others"] = {engine.part: engine.session for engine in opened[1:]}
    task = open_task(
        name, bundle, opened[0].session, precision=opened[0].variant, part=first, **given
    )
    return task, first, tuple(opened)
