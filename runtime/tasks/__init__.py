"""What the user came for, one file per task.

`open_task` is the one door. A task is bound to a bundle's part, an open session of it, and where it
needs one to a file made on the user's own data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import UnknownNameError, UsageError
from jetlift.runtime.tasks.base import Outcome, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session

    Opener = Callable[..., Task]

__all__ = ["TASKS", "Outcome", "Task", "needs_every_part", "open_task"]


def open_task(
    name: str,
    bundle: Bundle,
    session: Session,
    *,
    precision: str,
    part: str | None = None,
    **artefacts: Any,  # noqa: ANN401 - each task names its own below
) -> Task:
    """Bind a task to a session.

    Args:
        name: One of TASKS, as far as the bundle offers it.
        bundle: A verified bundle.
        session: An open session of the part.
        precision: The session's variant; a file made at another is refused.
        part: Name of the part; may be left out where only one can be meant.
        **artefacts: `embed` takes patch_tokens: bool. `search` takes index: Path or Index, and
            count: int. `anomaly` takes fit: Path or AnomalyModel. `detect` takes none. `classify`
            takes count: int and, for a model that compares pictures with words, prompts: Path or
            Prompts (runtime/prompts.py makes them).
            `transcribe` takes others: open sessions of the model's other parts, by part; language:
            str, and translate: bool.
            `fill-mask` takes count: int. `generate` takes options: GenerateOptions, and on_text,
            which is called with each piece of text as it comes. `similarity` takes none.

    Raises:
        UnknownNameError: The bundle offers no such task, or has no such part.
        UsageError: An artefact is missing or unknown, or the part cannot do the task.
        InputError: There is no such file.
        ArtefactError: A file is of another bundle or precision, or altered.
    """
    offered = bundle.manifest.tasks
    if name not in offered:
        raise UnknownNameError(
            f"Bundle {bundle.manifest.model} offers no task {name!r}",
            expected=f"One of {', '.join(offered)}" if offered else "",
            do="" if offered else "A graph of one's own has no tasks: use jetlift bench",
        )
    if name not in TASKS:
        raise UnknownNameError(
            f"This version of jetlift has no task {name!r}", expected=f"One of {', '.join(TASKS)}"
        )
    opener, known = TASKS[name]
    unknown = sorted(set(artefacts) - known)
    if unknown:
        raise UsageError(
            f"Task {name} got {', '.join(unknown)}",
            expected=f"Only {', '.join(sorted(known))}",
        )
    return opener(bundle, session, precision, part, **artefacts)


def _embed(
    bundle: Bundle,
    session: Session,
    _precision: str,
    part: str | None,
    *,
    patch_tokens: bool = False,
) -> Task:
    from jetlift.runtime.tasks.embed import EmbedTask
    from jetlift.runtime.tasks.encoder import Encoder

    return EmbedTask(Encoder(bundle, session, part), patch_tokens=patch_tokens)


def _search(
    bundle: Bundle,
    session: Session,
    precision: str,
    part: str | None,
    *,
    index: Any = None,  # noqa: ANN401 - a path or an Index
    count: int = 5,
) -> Task:
    from jetlift.runtime.tasks.artefact import check_stamp
    from jetlift.runtime.tasks.encoder import Encoder
    from jetlift.runtime.tasks.search import Index, SearchTask

    loaded = index if isinstance(index, Index) else Index.load(_needed("search", "index", index))
    encoder = Encoder(bundle, session, part)
    check_stamp(loaded.head.stamp, bundle, encoder.part_name, precision, "The search index")
    return SearchTask(encoder, loaded, count=count)


def _anomaly(
    bundle: Bundle,
    session: Session,
    precision: str,
    part: str | None,
    *,
    fit: Any = None,  # noqa: ANN401 - a path or an AnomalyModel
) -> Task:
    from jetlift.runtime.tasks.anomaly import AnomalyModel, AnomalyTask
    from jetlift.runtime.tasks.artefact import check_stamp
    from jetlift.runtime.tasks.encoder import Encoder

    is_open = isinstance(fit, AnomalyModel)
    loaded = fit if is_open else AnomalyModel.load(_needed("anomaly", "fit", fit))
    encoder = Encoder(bundle, session, part, patches=True)
    check_stamp(loaded.head.stamp, bundle, encoder.part_name, precision, "The anomaly model")
    return AnomalyTask(encoder, loaded)


def _detect(bundle: Bundle, session: Session, _precision: str, part: str | None) -> Task:
    from jetlift.runtime.tasks.detect import Detector, DetectTask

    return DetectTask(Detector(bundle, session, part))


def _transcribe(
    bundle: Bundle,
    session: Session,
    _precision: str,
    _part: str | None,
    *,
    others: Mapping[str, Session] | None = None,
    language: str | None = None,
    translate: bool = False,
) -> Task:
    from jetlift.runtime.tasks.transcribe import TranscribeTask

    return TranscribeTask(bundle, session, others or {}, language=language, translate=translate)


def _classify(
    bundle: Bundle,
    session: Session,
    _precision: str,
    part: str | None,
    *,
    prompts: Any = None,  # noqa: ANN401 - a path or Prompts
    count: int = 5,
) -> Task:
    from jetlift.runtime.prompts import Prompts
    from jetlift.runtime.tasks.classify import ClassifyTask, ClassScorer, WordScorer

    if bundle.manifest.zero_shot is None:
        if prompts is not None:
            raise UsageError(
                f"{bundle.manifest.model} got prompts, but its classes are fixed",
                expected="A model that compares pictures with words, such as clip-vit-b32",
            )
        return ClassifyTask(ClassScorer(bundle, session, part), count=count)
    is_open = isinstance(prompts, Prompts)
    loaded = prompts if is_open else Prompts.load(_needed("classify", "prompts", prompts))
    return ClassifyTask(WordScorer(bundle, session, loaded), count=count)


def _fill_mask(
    bundle: Bundle, session: Session, _precision: str, part: str | None, *, count: int = 5
) -> Task:
    from jetlift.runtime.tasks.fill_mask import FillMaskTask

    return FillMaskTask(bundle, session, part, count=count)


def _similarity(bundle: Bundle, session: Session, _precision: str, part: str | None) -> Task:
    from jetlift.runtime.tasks.encoder import Encoder
    from jetlift.runtime.tasks.similarity import SimilarityTask

    return SimilarityTask(Encoder(bundle, session, part))


def _generate(
    bundle: Bundle,
    session: Session,
    _precision: str,
    _part: str | None,
    *,
    options: Any = None,  # noqa: ANN401 - GenerateOptions, of a module that is imported here
    on_text: Callable[[str], None] | None = None,
) -> Task:
    from jetlift.runtime.tasks.generate import GenerateTask

    return GenerateTask(bundle, session, options, on_text)


def needs_every_part(name: str) -> bool:
    """Whether a task wants sessions of all parts, as its artefact `others`."""
    return name in TASKS and "others" in TASKS[name][1]


def _needed(task: str, what: str, given: Any) -> Any:  # noqa: ANN401
    if given is None:
        command = {
            "index": "jetlift index BUNDLE DIR -o INDEX",
            "fit": "jetlift fit BUNDLE GOOD_DIR -o FIT",
            "prompts": "jetlift prompts BUNDLE --prompt dog --prompt cat -o PROMPTS",
        }
        raise UsageError(
            f"Task {task} was asked for without its {what}",
            expected=f"A file made beforehand: {command[what]}",
        )
    return given


TASKS: dict[str, tuple[Opener, frozenset[str]]] = {
    "embed": (_embed, frozenset({"patch_tokens"})),
    "search": (_search, frozenset({"index", "count"})),
    "anomaly": (_anomaly, frozenset({"fit"})),
    "classify": (_classify, frozenset({"prompts", "count"})),
    "detect": (_detect, frozenset()),
    "transcribe": (_transcribe, frozenset({"others", "language", "translate"})),
    "fill-mask": (_fill_mask, frozenset({"count"})),
    "similarity": (_similarity, frozenset()),
    "generate": (_generate, frozenset({"options", "on_text"})),
}
