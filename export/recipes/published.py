"""A published checkpoint's folder, held to what its recipe says of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG, GENERATION_CONFIG, TOKENIZER = "config.json", "generation_config.json", "tokenizer.json"


def check_config(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Hold a checkpoint's config.json to the recipe's sizes.

    Args:
        folder: The checkpoint's folder.
        wanted: Keys of its config.json with the value that each must have. One that the file does
            not state is left to transformers' default, which the recipe's sizes are read from.

    Raises:
        InputError: There is no such file, or the checkpoint is of another size.
    """
    found = read_json(folder / CONFIG)
    for key, value in wanted.items():
        if key in found and found[key] != value:
            raise InputError(
                f"{folder} is a model with {key} {found[key]}",
                expected=f"{value}, as the chosen model has it",
                do="Choose the model of that size (jetlift models)",
            )


def ends_of(folder: Path) -> tuple[int, ...]:
    """Tokens that end a text, by whichever file states them.

    Raises:
        InputError: None does.
    """
    for name in (GENERATION_CONFIG, CONFIG):
        if (folder / name).is_file():
            stated = read_json(folder / name).get("eos_token_id")
            ids = stated if isinstance(stated, list) else [stated]
            if ids and all(isinstance(number, int) for number in ids):
                return tuple(ids)
    raise InputError(
        f"{folder} does not say which token ends a text",
        expected=f"{GENERATION_CONFIG} or {CONFIG} with eos_token_id",
    )


def labels_of(folder: Path, classes: int) -> list[str]:
    """The names of a classifier's classes, by their number, each on one line.

    Raises:
        InputError: config.json does not name every class.
    """
    named: Any = read_json(folder / CONFIG).get("id2label")
    try:
        labels = [" ".join(str(named[str(number)]).split()) for number in range(classes)]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder} does not name its classes: {error}",
            expected=f"A {CONFIG} whose id2label names {classes} classes",
        ) from error
    if len(named) != classes or not all(labels):
        raise InputError(
            f"{folder} names {len(named)} classes, some of them perhaps blank",
            expected=f"{classes} names",
        )
    return labels


def tokenizer_of(folder: Path) -> Path:
    """The fast tokenizer's file.

    Raises:
        InputError: There is none.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise InputError(f"{folder} has no {TOKENIZER}", expected="The fast tokenizer's file")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: There is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}",
            expected="A folder as transformers saves it: config.json, model.safetensors, "
            "tokenizer.json",
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object", expected="One, as transformers writes it")
    return found
