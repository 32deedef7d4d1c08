"""The manifest of `build-engines`: which models, at which precisions, for which targets.

Rules:
    F1  A manifest is TOML of the form below; an unknown key is refused with its place.
    F2  Paths in it are relative to the manifest's own folder, so it moves with what it names.
    F3  A model is one of the zoo (`model`), a graph of one's own (`onnx`) or a finished bundle
        (`bundle`); what only an export can use is refused beside `bundle`.
    F4  Names are unique: each model gets the folder OUT/NAME.
The published schema is docs/schemas/build-engines.schema.json, generated from these classes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from jetlift.engines.targets import target as target_of
from jetlift.runtime import jsonform
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.jsonform import field
from jetlift.runtime.manifest import NAME

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_TARGETS = ("cpu",)
_OF_EXPORT = ("weights", "samples", "fidelity", "search_minutes", "keep", "task", "labels")


@dataclass(frozen=True)
class Defaults:
    """What holds for every model that says nothing else."""

    targets: tuple[str, ...] = field(doc="Where engines are to run", default=DEFAULT_TARGETS)
    precisions: tuple[str, ...] | None = field(
        doc="Variants to make and build; without it fp32, fp16 and int8 where there are samples, "
        "and of a bundle whatever it has",
        default=None,
    )


@dataclass(frozen=True)
class Model:
    """One model of the matrix; exactly one of `model`, `onnx` and `bundle` says which."""

    name: str | None = field(
        doc="Its folder's name and its name in the table; without it that of the model or file",
        pattern=NAME,
        default=None,
    )
    model: str | None = field(doc="A model of the zoo (see 'jetlift models')", default=None)
    onnx: str | None = field(doc="An ONNX graph of one's own", default=None)
    bundle: str | None = field(doc="A finished bundle, which is not exported again", default=None)
    weights: str | None = field(
        doc="Hub id, folder, file or 'package'; without it the model's own source", default=None
    )
    samples: str | None = field(doc="Folder or file of real samples", default=None)
    fidelity: str | None = field(doc="Budget instead of the recipe's", default=None)
    search_minutes: float | None = field(doc="Bound of the precision search", default=None)
    keep: bool | None = field(doc="Keep variants that miss their budget", default=None)
    task: Literal["detect"] | None = field(doc="What a graph of one's own does", default=None)
    labels: str | None = field(doc="Labels of a detector, one per line", default=None)
    targets: tuple[str, ...] | None = field(doc="Instead of the defaults'", default=None)
    precisions: tuple[str, ...] | None = field(doc="Instead of the defaults'", default=None)


@dataclass(frozen=True)
class Matrix:
    """The whole of a manifest."""

    models: tuple[Model, ...] = field(doc="What to build")
    defaults: Defaults = field(doc="What holds for all", default=Defaults())


def read_matrix(path: Path) -> Matrix:
    """Read a manifest (rules F1 to F4); every model comes with its name, targets and precisions.

    Raises:
        InputError: It cannot be read, or is not of this form.
        UnknownNameError: A target is unknown.
        UsageError: A model contradicts itself, or two have one name.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", expected="A TOML manifest") from error
    with jsonform.refusing(path, InputError, do="docs/build-engines.md has an example"):
        matrix = jsonform.read(Matrix, data)
    models = tuple(_complete(model, matrix.defaults, path.parent) for model in matrix.models)
    if not models:
        raise UsageError(f"{path} names no model", expected="At least one [[models]]")
    names = [str(model.name) for model in models]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"{path} has two models named {name!r}",
                expected="Names that differ, since each gets a folder",
                do="Give one of them another 'name'",
            )
    return replace(matrix, models=models)


def _complete(model: Model, defaults: Defaults, folder: Path) -> Model:
    """A model with its name, defaults and paths (rules F2 and F3)."""
    sources = [name for name in ("model", "onnx", "bundle") if getattr(model, name) is not None]
    if len(sources) != 1:
        raise UsageError(
            f"A model of the manifest has {' and '.join(sources) or 'none of these'}",
            expected="Exactly one of model, onnx and bundle",
        )
    if model.bundle is not None:
        for key in _OF_EXPORT:
            if getattr(model, key) is not None:
                raise UsageError(
                    f"Bundle {model.bundle} has {key!r} beside it",
                    expected="A finished bundle is built as it is",
                    do=f"Remove {key}, or name the model or graph it was made of",
                )
    if model.model is not None and (model.task or model.labels):
        raise UsageError(
            f"Model {model.model} has a task or labels", expected="Only onnx takes any"
        )
    targets = model.targets if model.targets is not None else defaults.targets
    for name in targets:
        target_of(name)
    own = str(model.model or (folder / str(model.onnx or model.bundle)).stem)
    return replace(
        model,
        name=model.name or own,
        targets=tuple(dict.fromkeys(targets)),
        precisions=model.precisions if model.precisions is not None else defaults.precisions,
        onnx=_path(model.onnx, folder),
        bundle=_path(model.bundle, folder),
        samples=_path(model.samples, folder),
        labels=_path(model.labels, folder),
        weights=_weights(model.weights, folder),
    )


def _path(given: str | None, folder: Path) -> str | None:
    return None if given is None else str(folder / given)


def _weights(given: str | None, folder: Path) -> str | None:
    """A path that is there is one (rule F2); anything else is a word or a hub id."""
    return str(folder / given) if given and (folder / given).exists() else given


def request_of(model: Model) -> dict[str, object]:
    """What an export of a model depends on, to tell whether a finished one is still it."""
    without = ("name", "targets", "bundle")
    return {
        item.name: jsonform.to_data(value)
        for item in fields(model)
        if item.name not in without and (value := getattr(model, item.name)) is not None
    }
