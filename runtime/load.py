"""A model in three lines of Python: `jetlift.load`.

    import jetlift

    with jetlift.load("clip", prompts=["a dog", "a cat"]) as classify:
        print(classify("photo.jpg")["labels"])

Rules:
    A1  It opens what `jetlift run` opens, by the same rules (jetlift.runtime.opening), and its
        fields are those of results.jsonl.
    A2  One input in, one dictionary out; a list in, a list out; whatever holds several inputs (a
        folder, a video, a camera) goes through `stream`. What an input may be: rules A2 and A3 of
        jetlift.runtime.given.
    A4  What the user should know is in `notices`, each sentence once.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from jetlift.runtime import opening
from jetlift.runtime.auto_target import AUTO, choose_target
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.closing import Closing
from jetlift.runtime.drawing import with_warning
from jetlift.runtime.errors import UsageError
from jetlift.runtime.given import item_of
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.newest import NewestFrames
from jetlift.runtime.opening import Engines
from jetlift.runtime.run import open_inputs
from jetlift.runtime.sources import open_frame_sources
from jetlift.runtime.streams.opening import is_live
from jetlift.runtime.tasks import input_part, other_parts

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    import numpy.typing as npt

    from jetlift.runtime.given import One
    from jetlift.runtime.prompts import Prompts
    from jetlift.runtime.run_facts import RunEngine
    from jetlift.runtime.tasks.base import Item, Outcome, Task

_RANDOM = "Export it with weights=..., or say allow_random=True to see the structure at work"


def load(
    bundle: Bundle | Path | str,
    *,
    target: str = AUTO,
    task: str | None = None,
    precision: str | None = None,
    part: str | None = None,
    prompts: Sequence[str] | Prompts | Path | None = None,
    templates: Sequence[str] = (),
    fit: Path | str | None = None,
    index: Path | str | None = None,
    threads: int | None = None,
    allow_random: bool = False,
    **artefacts: Any,  # noqa: ANN401 - each task's open_from types its own
) -> LoadedTask:
    """Open a bundle for one of its tasks (rule A1).

    Args:
        bundle: Its folder, or the bundle itself.
        target: Where it runs; `auto` takes a GPU's or board's engine that may load here, else
            `cpu`.
        task: What to do; the bundle's first task if not given.
        precision: Variant to use; if not given, the one that earned its place on this machine,
            else fp32.
        part: Part that takes the inputs, where a model has several.
        prompts: For classify and detect: words or phrases, or features made by 'jetlift prompts'
            (a Path to its file).
        templates: Sentences for the words, as in 'a photo of a {}.'.
        fit: For anomaly: model made by 'jetlift fit'.
        index: For search: index made by 'jetlift index'.
        threads: Threads of the processor; the library's choice if not given.
        allow_random: Run weights that were drawn at random, whose answers are none.
        **artefacts: What else the task takes, as in count=3 or language="ja"; see
            jetlift.runtime.tasks.

    Raises:
        JetliftError: The bundle is refused, a name is unknown, an engine may not load, or this
            machine lacks something.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    mark = opening.refuse_random(opened, opened.folder, allow=allow_random, do=_RANDOM)
    name = task or (opened.manifest.tasks or ("embed",))[0]
    words = _words(opened, name, prompts, templates)
    made, fixed = opening.open_artefacts(fit, index)
    notices: list[str] = []
    first = input_part(opened, name, part)
    parts = (first, *other_parts(opened, name, first), *_words_part(opened, words))
    engines = _engines(opened, parts, Engines(target, precision or fixed, threads), notices)
    if words is not None:
        prompts = opening.compute_prompts(
            opened, words, engines, notices.append, templates=templates
        )
    made |= artefacts if prompts is None else artefacts | {"prompts": _features(prompts)}
    with ExitStack() as stack:
        bound, first, running = opening.open_bound(
            opened, name, engines, made, stack, notices.append, part=part
        )
        return LoadedTask(opened, bound, first, engines.target, running, notices, mark, stack)


class LoadedTask(Closing):
    """A task with its engines in memory. A context manager; one thread at a time.

    Attributes:
        bundle: The bundle.
        task: The task itself.
        part: The part that takes the inputs.
        target: Where it runs.
        engines: Every engine, with the time of its runs.
    """

    def __init__(
        self,
        bundle: Bundle,
        task: Task,
        part: str,
        target: str,
        engines: Sequence[RunEngine],
        notices: Sequence[str],
        mark: dict[str, str],
        stack: ExitStack,
    ) -> None:
        self.bundle, self.task, self.part, self.target = bundle, task, part, target
        self.engines = tuple(engines)
        self._notices, self._mark, self._count = list(notices), mark, 0
        self._stack = stack.pop_all()

    @property
    def precision(self) -> str:
        """Variant of the part that takes the inputs."""
        return self.engines[0].variant

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know so far (rule A4)."""
        return tuple(dict.fromkeys((*self._notices, *self.task.notes)))

    @overload
    def __call__(self, given: One) -> dict[str, Any]: ...

    @overload
    def __call__(self, given: list[Any] | tuple[Any, ...]) -> list[dict[str, Any]]: ...

    def __call__(
        self, given: One | list[Any] | tuple[Any, ...]
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """What the task finds in one input, or in each of a list (rule A2).

        Args:
            given: A path, a picture (uint8 [H, W, 3], BGR), a text where the part reads texts, a
                Sound, an item of a source, or a list of these.

        Returns:
            The fields of results.jsonl.

        Raises:
            InputError: It cannot be read or used, or holds several inputs.
            UsageError: It is of a kind that the part does not take.
            EngineLibraryError: The engine failed.
        """
        if isinstance(given, (list, tuple)):
            return [self.process(one).fields for one in given]
        return self.process(given).fields

    def process(self, given: One) -> Outcome:
        """The same with arrays and pictures; see __call__."""
        item = self.item_of(given)
        return self._marked(self.task.process(item))

    def draw(self, given: One) -> npt.NDArray[np.uint8] | None:
        """The outcome as a picture, uint8 [H, W, 3] in BGR; None where the task draws nothing."""
        item = self.item_of(given)
        drawn = self.task.draw(item, self.task.process(item))
        if drawn is None or not self._mark:
            return drawn
        warning = ", ".join(f"{name}: {value}" for name, value in self._mark.items())
        return with_warning(drawn, warning)

    def stream(
        self, source: str | Path | Sequence[str | Path], *, limit: int | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """The fields of every input of a source, as they come.

        What cannot be read is left out and told in `notices`. A camera never ends: leave the loop;
        each turn of it gets the newest frame (jetlift.runtime.newest).

        Args:
            source: Files, folders, patterns, videos, cameras, streams, as `jetlift run` takes them.
            limit: Stop after this many.

        Raises:
            InputError: It cannot be opened, or nothing in it could be read.
            UsageError: The limit is below 1.
            JetliftError: What the task raises.
        """
        with closing(self.outcomes(source, limit=limit)) as every:
            for _item, outcome in every:
                yield outcome.fields

    def outcomes(
        self, source: str | Path | Sequence[str | Path], *, limit: int | None = None
    ) -> Generator[tuple[Item, Outcome], None, None]:
        """Every input of a source with all that the task found; see `stream`."""
        given = [source] if isinstance(source, (str, Path)) else source
        names = [str(name) for name in given]
        if limit is not None and limit < 1:
            raise UsageError(f"Got a limit of {limit} inputs", expected="At least 1")
        takes = self.bundle.part(self.part)[1].preprocess
        if isinstance(takes, ImagePreprocess) and any(map(is_live, names)):
            with NewestFrames(open_frame_sources(names)) as live, closing(live.frames()) as frames:
                for frame in islice(frames, limit):
                    yield frame, self._marked(self.task.process(frame))
            return
        with open_inputs(self.bundle, self.part, names, limit=limit) as items:
            try:
                for item in items:
                    yield item, self._marked(self.task.process(item))
            finally:
                skipped = getattr(items, "skipped", ())
                self._notices += [f"Skipped {entry.source}: {entry.reason}" for entry in skipped]

    def item_of(self, given: One) -> Item:
        """An input as the task takes it; see jetlift.runtime.given."""
        number, self._count = self._count, self._count + 1
        return item_of(self.bundle, self.part, given, number)

    def _marked(self, outcome: Outcome) -> Outcome:
        return replace(outcome, fields=outcome.fields | self._mark) if self._mark else outcome

    def close(self) -> None:
        """Close every engine. A second call does nothing."""
        self._stack.close()


def _words(
    bundle: Bundle,
    task: str,
    prompts: Sequence[str] | Prompts | Path | None,
    templates: Sequence[str],
) -> tuple[str, ...] | None:
    """The words to compute features of; None where none are given, or their features are."""
    opening.check_words(task, given=prompts is not None or bool(templates))
    if isinstance(prompts, str):
        raise UsageError(
            f"Got the prompts {prompts!r}",
            expected="A list of words, or a Path to features made by 'jetlift prompts'",
        )
    if isinstance(prompts, (list, tuple)):
        return tuple(prompts)
    if prompts is None and opening.takes_words(bundle, task):
        raise UsageError(
            f"Task {task} of {bundle.manifest.model} got no words to compare with",
            expected='prompts=["a dog", "a cat"]',
        )
    if templates:
        raise UsageError(
            "Got templates without words", expected="Words beside them: their features are made new"
        )
    return None


def _words_part(bundle: Bundle, words: Sequence[str] | None) -> tuple[str, ...]:
    facts = bundle.manifest.zero_shot or bundle.manifest.open_vocabulary
    return (facts.text,) if words and facts is not None else ()


def _features(prompts: object) -> Prompts:
    from jetlift.runtime.prompts import Prompts

    if isinstance(prompts, Path):
        return Prompts.load(prompts)
    if isinstance(prompts, Prompts):
        return prompts
    raise UsageError(
        f"Got prompts of kind {type(prompts).__name__}",
        expected="A list of words, or a Path to features made by 'jetlift prompts'",
    )


def _engines(bundle: Bundle, parts: Sequence[str], asked: Engines, notices: list[str]) -> Engines:
    if asked.target != AUTO:
        return asked
    choice = choose_target(bundle, parts, asked.precision)
    notices += choice.notices
    return replace(asked, target=choice.target, precision=choice.precision)
