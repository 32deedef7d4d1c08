"""What 'jetlift run' is told of speech."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

LanguageOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--language",
        help="For speech: its language, as in ja or Japanese; detected if not given.",
    ),
]
TranslateFlag = Annotated[
    bool, typer.Option("--translate", help="For speech: give the words in English.")
]


def spoken(language: str | None, *, translate: bool) -> dict[str, Any]:
    """What was given; a task that takes no speech refuses it by name."""
    given = {} if language is None else {"language": language}
    return given | ({"translate": True} if translate else {})
