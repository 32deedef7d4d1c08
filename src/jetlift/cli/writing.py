"""Options of the tasks that write text, and the stream of what they write."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TASK = "generate"

TemperatureOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--temperature",
        help="For --task generate: 0 takes the likeliest token each time, which is the default; "
        "1 draws by the model's own probabilities.",
    ),
]
TopPOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--top-p", help="Draw among the likeliest tokens that hold this share of the probability."
    ),
]
SeedOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--seed", help="Where draws begin; by chance, and told, if not given."),
]
MaxTokensOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--max-tokens", help="Longest text to write, in tokens; 128 if not given."),
]
StopOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--stop", help="A string that ends the text, \\n for a line's end; give several."),
]
ChatFlag = Annotated[
    bool, typer.Option("--chat", help="Write the prompt as a turn, as an instruct model wants it.")
]
SystemOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--system", help="The turn's instruction, in place of the model's own."),
]


@dataclass(frozen=True)
class Writing:
    """What a user says of how to write; None and False where nothing."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    chat: bool = False
    system: str | None = None


def artefacts(task: str, writing: Writing, top_k: int | None) -> dict[str, Any]:
    """What a task takes of these options; of --top-k, which others have as a count.

    Raises:
        UsageError: Another task got one of them, or one is out of its range.
    """
    from jetlift.runtime.errors import UsageError

    if task != TASK:
        if given := _given(writing):
            raise UsageError(
                f"Task {task} got {', '.join(given)}", expected=f"These for --task {TASK}"
            )
        return {} if top_k is None else {"count": top_k}
    return {"options": _options(writing, top_k)}


def stream_for(task: str, out: Path | None, *, as_json: bool) -> Callable[[str], None] | None:
    """What shows text as it comes: on a terminal alone, where no results are asked for."""
    if task != TASK or out is not None or as_json or not sys.stdout.isatty():
        return None

    def show(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    return show


def _given(writing: Writing) -> list[str]:
    named = {"stops": "stop"}
    return [
        f"--{named.get(item.name, item.name).replace('_', '-')}"
        for item in fields(Writing)
        if getattr(writing, item.name) not in (None, (), False)
    ]


def _options(writing: Writing, top_k: int | None) -> Any:  # noqa: ANN401 - imported inside
    from jetlift.runtime.errors import UsageError
    from jetlift.runtime.sampling import SamplingOptions
    from jetlift.runtime.tasks.generate import MAX_TOKENS, GenerateOptions

    drawn = {"--top-k": top_k, "--top-p": writing.top_p, "--seed": writing.seed}
    useless = [name for name, value in drawn.items() if value is not None]
    if useless and not writing.temperature:
        raise UsageError(
            f"Got {', '.join(useless)}, and at temperature 0 nothing is drawn",
            expected="--temperature above 0 beside it",
        )
    sampling = SamplingOptions(
        temperature=0.0 if writing.temperature is None else writing.temperature,
        top_k=top_k,
        top_p=1.0 if writing.top_p is None else writing.top_p,
        seed=writing.seed,
    )
    return GenerateOptions(
        sampling=sampling,
        max_tokens=MAX_TOKENS if writing.max_tokens is None else writing.max_tokens,
        stops=tuple(stop.replace("\\n", "\n") for stop in writing.stops),
        chat=writing.chat,
        system=writing.system,
    )
