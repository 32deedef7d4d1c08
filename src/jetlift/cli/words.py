"""The command that computes text features once, and what 'jetlift run' does with prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.opening import open_bundle
from jetlift.cli.options import (
    AllowRandomFlag,
    BundleArgument,
    PrecisionOption,
    PromptOption,
    TargetOption,
    TemplateOption,
    ThreadsOption,
)

if TYPE_CHECKING:
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.prompts import Prompts


@dataclass(frozen=True)
class Words:
    """What a user says of the words to compare with.

    Attributes:
        prompts: Words or phrases.
        templates: Sentences to put them into.
        file: Features made by 'jetlift prompts', instead.
    """

    prompts: tuple[str, ...]
    templates: tuple[str, ...] = ()
    file: Path | None = None


@app.command(epilog="Example: jetlift prompts clip --prompt dog --prompt cat -o pets.prompts")
def prompts(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the features.")],
    *,
    prompt: PromptOption = None,
    words_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--from",
            help="Text file with one prompt per line, or a list that is shipped: lvis (1203 names) "
            "or imagenet-21k (20,068).",
        ),
    ] = None,
    template: TemplateOption = None,
    precision: PrecisionOption = None,
    target: TargetOption = "cpu",
    threads: ThreadsOption = None,
    allow_random: AllowRandomFlag = False,
) -> None:
    """Compute the features of prompts once, for 'jetlift run --prompts' on any machine."""
    opened = open_bundle(bundle, allow_random=allow_random)
    given = [*(prompt or ()), *(_lines_of(words_file) if words_file is not None else ())]
    words = Words(tuple(given), tuple(template or ()))
    made = _computed(opened, words, precision, target, threads)
    made.save(out)
    console.say(
        f"{len(made.head.prompts)} prompts in {len(made.head.templates)} templates. Written: {out}"
    )


def for_task(
    bundle: Bundle,
    task: str,
    words: Words,
    precision: str | None,
    target: str,
    threads: int | None,
) -> dict[str, Any]:
    """The artefact that a task for words needs of a user's; nothing where there are none.

    The engine of the text part is closed again before that of the pictures is opened.

    Raises:
        UsageError: The words are given twice, in part, not at all, or to another task.
        JetliftError: As `build_prompts`.
    """
    from jetlift.runtime.errors import UsageError
    from jetlift.runtime.opening import check_words, takes_words
    from jetlift.runtime.prompts import Prompts

    given = bool(words.prompts or words.templates or words.file)
    check_words(task, given=given)
    if not given and not takes_words(bundle, task):
        return {}
    if words.file is not None:
        if words.prompts or words.templates:
            raise UsageError(
                f"Got {words.file} and other prompts or templates beside it",
                expected="Either --prompts FILE, or --prompt with --template",
            )
        return {"prompts": Prompts.load(words.file)}
    return {"prompts": _computed(bundle, words, precision, target, threads)}


def _computed(
    bundle: Bundle, words: Words, precision: str | None, target: str, threads: int | None
) -> Prompts:
    from jetlift.runtime.opening import Engines, compute_prompts

    with console.counting("prompts", len(words.prompts)) as advance:
        return compute_prompts(
            bundle, words.prompts, Engines(target, precision, threads), console.say,
            templates=words.templates, progress=lambda _done: advance(),
        )  # fmt: skip


def _lines_of(path: Path) -> list[str]:
    from jetlift.runtime import vocabulary
    from jetlift.runtime.texts import open_texts

    if str(path) in vocabulary.names() and not path.exists():
        return list(vocabulary.words_of(str(path)))
    with open_texts([str(path)]) as source:
        return [item.text for item in source]
