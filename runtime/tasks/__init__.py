"""What the user came for, one file per task.

`open_task` is the one door. A task is bound to a bundle's part, an open session of it, and where it
needs one to a file made on the user's own data.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import UnknownNameError, UsageError
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.tasks.base import Outcome, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.manifest import Manifest
    from jetlift.runtime.session.base import Session

__all__ = [
    "TASKS",
    "Outcome",
    "Task",
    "TaskEntry",
    "input_part",
    "needs_every_part",
    "open_task",
    "other_parts",
]


@dataclass(frozen=True)
class TaskEntry:
    """Where a task is, imported when it is opened.

    Attributes:
        module: Has `open_from(bundle, session, precision, part, **artefacts) -> Task`.
        artefacts: Names of what it takes beside a session. `others` are open sessions of the
            model's other parts, by part.
        input_part: The part that reads the inputs, where the model has several that could.
        spares: Parts that the task has no use for, though others of the model have.
    """

    module: str
    artefacts: frozenset[str] = frozenset()
    input_part: Callable[[Manifest], str | None] | None = None
    spares: Callable[[Manifest], frozenset[str]] | None = None


def open_task(
    name: str,
    bundle: Bundle,
    session: Session,
    *,
    precision: str,
    part: str | None = None,
    **artefacts: Any,  # noqa: ANN401 - each task's open_from types its own
) -> Task:
    """Bind a task to a session.

    Args:
        name: One of TASKS, as far as the bundle offers it.
        bundle: A verified bundle.
        session: An open session of the part.
        precision: The session's variant; a file made at another is refused.
        part: Name of the part; may be left out where only one can be meant.
        **artefacts: What TASKS says the task takes; `open_from` in its module says of each what
            it is.

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
    entry = TASKS[name]
    unknown = sorted(set(artefacts) - entry.artefacts)
    if unknown:
        raise UsageError(
            f"Task {name} got {', '.join(unknown)}",
            expected=f"Only {', '.join(sorted(entry.artefacts))}",
        )
    opened: Task = importlib.import_module(f"{__name__}.{entry.module}").open_from(
        bundle, session, precision, part, **artefacts
    )
    return opened


def needs_every_part(name: str) -> bool:
    """Whether a task wants sessions of all parts, as its artefact `others`."""
    return name in TASKS and "others" in TASKS[name].artefacts


def other_parts(bundle: Bundle, task: str, part: str) -> tuple[str, ...]:
    """Parts whose sessions a task takes as its artefact `others`.

    All but the one it runs on. Memory is scarce on a board: where the task takes prompts, whose
    features were computed before, those that run per prompt are not opened again, nor are those
    that it spares.
    """
    if not needs_every_part(task):
        return ()
    entry = TASKS[task]
    computed = "prompts" in entry.artefacts
    spared = frozenset() if entry.spares is None else entry.spares(bundle.manifest)
    return tuple(
        name
        for name, item in bundle.manifest.parts.items()
        if name != part and not (computed and item.runs_per == "prompt") and name not in spared
    )


def input_part(bundle: Bundle, task: str | None = None, part: str | None = None) -> str:
    """The part that takes the inputs: the named one, or the only one that can be meant.

    A model that compares pictures with words is meant for pictures.

    Raises:
        UnknownNameError: No such part, or several that could be meant.
    """
    manifest = bundle.manifest
    entry = TASKS.get(task or "")
    if part is None and entry is not None and entry.input_part is not None:
        part = entry.input_part(manifest)
    words = manifest.zero_shot or manifest.open_vocabulary
    if part is None and words is not None:
        part = words.image
    able = [name for name, item in manifest.parts.items() if item.preprocess is not None]
    return bundle.part(part or (able[0] if len(able) == 1 else None))[0]


def _words_part(manifest: Manifest) -> str | None:
    """The part that reads prompts."""
    if manifest.diffusion is not None:
        return manifest.diffusion.text_encoder
    return manifest.unclip.text if manifest.unclip is not None else None


def _rays_part(manifest: Manifest) -> str | None:
    return None if manifest.radiance is None else manifest.radiance.rays


def _picture_part(manifest: Manifest) -> str | None:
    """The part that reads the pictures to be changed."""
    return manifest.diffusion.vae_encoder if manifest.diffusion is not None else None


def _embedded_part(manifest: Manifest) -> str | None:
    """The part that reads the pictures to be varied."""
    return manifest.unclip.image if manifest.unclip is not None else None


_IMAGING = frozenset({"others", "options"})


def _picture_readers(manifest: Manifest) -> frozenset[str]:
    parts = manifest.parts.items()
    return frozenset(name for name, it in parts if isinstance(it.preprocess, ImagePreprocess))


def _prior(manifest: Manifest) -> frozenset[str]:
    """A given picture's embedding is computed, not drawn."""
    return frozenset() if manifest.unclip is None else frozenset({manifest.unclip.prior})


TASKS: dict[str, TaskEntry] = {
    "embed": TaskEntry("embed", frozenset({"patch_tokens"})),
    "search": TaskEntry("search", frozenset({"index", "count"})),
    "anomaly": TaskEntry("anomaly", frozenset({"fit"})),
    "classify": TaskEntry("classify", frozenset({"prompts", "count"})),
    "detect": TaskEntry("detect", frozenset({"prompts", "others"})),
    "transcribe": TaskEntry("transcribe", frozenset({"others", "language", "translate"})),
    "fill-mask": TaskEntry("fill_mask", frozenset({"count"})),
    "similarity": TaskEntry("similarity"),
    "generate": TaskEntry("generate", frozenset({"options", "on_text"})),
    "render": TaskEntry("render", input_part=_rays_part),
    "text-to-image": TaskEntry("text_to_image", _IMAGING, _words_part, _picture_readers),
    "image-to-image": TaskEntry("image_to_image", _IMAGING, _picture_part),
    "inpaint": TaskEntry("inpaint", _IMAGING, _picture_part),
    "variations": TaskEntry("unclip", _IMAGING, _embedded_part, _prior),
}
