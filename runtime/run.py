"""Input after input through a task, and every result to where it belongs.

Rules:
    R1  What a folder of results holds is said in folder_sink.py, rule O1.
    R2  An input that cannot be read or used is counted and named, and the rest goes on.
    R3  Whatever ends the run early, the sources are closed and no file looks finished that is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import UsageError
from jetlift.runtime.folder_sink import FolderSink
from jetlift.runtime.manifest import AudioPreprocess, TextPreprocess
from jetlift.runtime.pipeline.feeders import PlainSource
from jetlift.runtime.pipeline.holder import TaskHolder
from jetlift.runtime.pipeline.pipeline import Pipeline, PipelineOptions
from jetlift.runtime.poses import open_poses
from jetlift.runtime.sounds import open_sounds
from jetlift.runtime.sources import open_source
from jetlift.runtime.task_forms import PosePreprocess
from jetlift.runtime.texts import open_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.pipeline.form import Result
    from jetlift.runtime.poses import PoseSource
    from jetlift.runtime.sounds import SoundSource
    from jetlift.runtime.sources import Source
    from jetlift.runtime.streams.microphone import MicrophoneSource
    from jetlift.runtime.tasks.base import Task
    from jetlift.runtime.texts import TextSource

    Inputs = Source | TextSource | SoundSource | MicrophoneSource | PoseSource


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        done: Inputs with a result.
        skipped: Inputs that could not be read, with the reason.
        out: Where the results lie, or None.
        notes: What the user should know of the inputs.
    """

    done: int
    skipped: tuple[tuple[str, str], ...]
    out: Path | None
    notes: tuple[str, ...] = ()


def open_inputs(
    bundle: Bundle, part: str, inputs: Sequence[str], *, limit: int | None = None
) -> Inputs:
    """Open the inputs as the part takes them: pictures, texts, sounds or camera poses.

    Raises:
        InputError: One of them cannot be used.
        UsageError: There are none, or one is of a kind that this version does not read.
    """
    preprocess = bundle.part(part)[1].preprocess
    if isinstance(preprocess, TextPreprocess):
        return open_texts(inputs, limit=limit, literal=True)
    if isinstance(preprocess, AudioPreprocess):
        return open_sounds(inputs, limit=limit)
    if isinstance(preprocess, PosePreprocess):
        scene = bundle.manifest.radiance
        if scene is None:
            raise UsageError(
                f"Part {part} takes camera poses, and the bundle states no scene",
                expected="A radiance field, such as nerf",
            )
        return open_poses(inputs, scene, limit=limit)
    return open_source(inputs, limit=limit)


def run_task(
    task: Task,
    source: Inputs,
    *,
    out: Path | None = None,
    show: Callable[[dict[str, Any]], None] | None = None,
    advance: Callable[[], None] | None = None,
    mark: Mapping[str, Any] | None = None,
) -> RunSummary:
    """Process every input of a source (rules R1 to R3).

    Args:
        task: An open task.
        source: Opened inputs; the caller closes them.
        out: Folder for the results; it must be new or empty. None writes nothing.
        show: Called with each result.
        advance: Called after each input.
        mark: Fields to add to every result and to tell on every picture, as that the weights
            are random.

    Raises:
        InputError: The folder holds files already, or no input could be read.
        JetliftError: Whatever the task raises.
    """
    sinks = []
    if out is not None:
        fps = getattr(source, "fps", None)
        sinks = [FolderSink(out, label=task.name, video_fps=fps, mark=mark)]

    def told(result: Result) -> None:
        if show is not None:
            show(result.outcome.fields)
        if advance is not None:
            advance()

    options = PipelineOptions(overlap=False, mark=dict(mark or {}))
    plain = PlainSource(source, "inputs")
    with TaskHolder(task) as holder:
        pipeline = Pipeline([plain], holder, sinks, options, told=told)
        done = pipeline.run().done
    skipped = (*plain.skipped, *pipeline.skipped)
    return RunSummary(done, tuple((it.source, it.reason) for it in skipped), out, task.notes)
