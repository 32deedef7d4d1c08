"""Commands that make things: demo, models, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.options import (
    ExploreOption,
    FramesOption,
    JsonFlag,
    LabelsOption,
    OutOption,
    OwnTaskOption,
    SamplesOption,
    SearchMinutesOption,
    WeightsOption,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jetlift.export.detector import DetectOptions
    from jetlift.export.recipes.base import Recipe
    from jetlift.runtime.bundle import Bundle


@app.command(epilog="Example: jetlift demo -o jetlift-demo")
def demo(
    out: OutOption = Path("jetlift-demo"),
    *,
    time_limit_s: Annotated[
        float, typer.Option(help="Longest time to measure one variant, in seconds.")
    ] = 20.0,
) -> None:
    """Do the main job with a real model: export, build, run and measure on this machine's CPU."""
    from jetlift import demo as show

    show.run(out, time_limit_s=time_limit_s)


@app.command(epilog="Example: jetlift models --json")
def models(*, as_json: JsonFlag = False) -> None:
    """List the models that jetlift can export."""
    from jetlift.export.recipes import RECIPES

    rows = [
        {
            "model": recipe.name,
            "title": recipe.title,
            "tasks": list(recipe.tasks),
            "parts": list(recipe.parts),
            "parameters": recipe.parameters,
            "licence": recipe.licence,
            "source": recipe.hub_id,
            "offline_source": _package_of(recipe),
            "random": recipe.random,
        }
        for recipe in RECIPES.values()
    ]
    if as_json:
        console.show_json(rows)
        return
    columns = ("model", "tasks", "parts", "parameters", "licence", "source", "weights here")
    console.show_table(
        "The zoo",
        columns,
        [
            (
                recipe.name,
                ", ".join(recipe.tasks),
                ", ".join(recipe.parts),
                f"{recipe.parameters:,}",
                recipe.licence,
                recipe.hub_id,
                _package_of(recipe) or ("none, random for structure" if recipe.random else "none"),
            )
            for recipe in RECIPES.values()
        ],
    )


def _package_of(recipe: Recipe) -> str | None:
    """The package with a model's weights, for machines without a hub."""
    packaged = recipe.packaged
    return None if packaged is None else f"{packaged.package}=={packaged.version}"


@app.command(epilog="Example: jetlift export dinov2-small --samples pictures/ -o dinov2")
def export(
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A model of the zoo (see 'jetlift models')."),
    ] = None,
    out: OutOption = Path("bundle"),
    *,
    onnx: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--onnx", help="An ONNX graph of your own, instead of a model."),
    ] = None,
    weights: WeightsOption = None,
    precision: Annotated[
        str, typer.Option("--precision", help="Variants to make, separated by commas.")
    ] = "fp32,fp16,int8",
    samples: SamplesOption = None,
    fidelity: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--fidelity", help="Budget instead of the recipe's: 'embedding.cosine_min>=0.98'."
        ),
    ] = None,
    shape: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--shape", help="For --onnx: the shape to optimise for, as in x=1x3x224x224."),
    ] = None,
    task: OwnTaskOption = None,
    labels: LabelsOption = None,
    frames: FramesOption = None,
    search_minutes: SearchMinutesOption = 15.0,
    explore: ExploreOption = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep variants that miss the fidelity budget.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Turn a model's weights into a bundle: ONNX at every precision, checked and measured."""
    from jetlift.export.make import Request, export_onnx, export_recipe
    from jetlift.export.precision.int8 import SearchOptions
    from jetlift.export.recipes import recipe
    from jetlift.runtime.errors import UsageError

    if (model is None) == (onnx is None):
        raise UsageError(
            "Got both a model and --onnx" if model else "Got neither a model nor --onnx",
            expected="One of the two: jetlift export MODEL, or jetlift export --onnx FILE",
        )
    precisions = tuple(item.strip() for item in precision.split(",") if item.strip())
    detect = _detect_options(model, task, labels)
    search = SearchOptions(60 * search_minutes, explore)
    frame_wh = _frame_size(frames) if frames is not None else None
    request = Request(out, precisions, samples, fidelity, keep, search, frame_wh)
    with console.stages() as report:
        if onnx is not None:
            shapes = _shapes(shape or [])
            bundle = export_onnx(onnx, request, shapes=shapes, detect=detect, report=report)
        else:
            bundle = export_recipe(recipe(str(model)), weights, request, report)
    _show_bundle(bundle, as_json=as_json)


def _detect_options(
    model: str | None, task: str | None, labels: Path | None
) -> DetectOptions | None:
    from jetlift.export.detector import DetectOptions
    from jetlift.runtime.errors import UnknownNameError, UsageError

    if model is not None and (task is not None or labels is not None):
        raise UsageError(
            f"Got {model} with {'--task' if task else '--labels'}",
            expected="That with --onnx only: a model of the zoo knows its task",
        )
    if task is None and labels is not None:
        raise UsageError("Got --labels without --task", do="Add --task detect")
    if task not in (None, "detect"):
        raise UnknownNameError(f"--task got {task!r}", expected="'detect', or no --task")
    return DetectOptions(labels) if task else None


def _frame_size(text: str) -> tuple[int, int]:
    from jetlift.runtime.errors import UsageError

    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--frames got {text!r}", expected="Width x height, as in 1280x720")
    return int(width), int(height)


def _shapes(texts: list[str]) -> Mapping[str, tuple[int, ...]]:
    from jetlift.runtime.errors import UsageError

    shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        pieces = sizes.split("x")
        if not name or not all(piece.isdigit() and int(piece) > 0 for piece in pieces):
            raise UsageError(f"--shape got {text!r}", expected="NAME=1x3x224x224")
        shapes[name] = tuple(int(piece) for piece in pieces)
    return shapes


def _show_bundle(bundle: Bundle, *, as_json: bool) -> None:
    from jetlift.runtime import jsonform

    manifest = bundle.manifest
    if as_json:
        console.show_json(jsonform.to_data(manifest))
        return
    rows = []
    for part, described in manifest.parts.items():
        for name, variant in described.variants.items():
            size_mb = (
                sum(bundle.path(f).stat().st_size for f in (variant.file, *variant.data_files))
                / 1e6
            )
            judged = variant.fidelity
            figures = "reference" if name == "fp32" else "not measured"
            if manifest.weights.random:
                figures = "structure"
            if judged is not None:
                met = "within budget" if judged.met else "MISSES its budget"
                figures = f"{met}: " + ", ".join(f"{k} {v:.4f}" for k, v in judged.figures.items())
            rows.append(
                (part, name, f"{size_mb:.1f}", f"{variant.cost.operations / 1e9:.2f}", figures)
            )
    columns = ("part", "variant", "MB", "GOP (MAC x 2)", "fidelity to fp32")
    console.show_table(f"{manifest.model} in {bundle.folder}", columns, rows)
    for part, described in manifest.parts.items():
        for uncounted in described.variants["fp32"].cost.uncounted:
            console.say(f"Not counted in {part}'s operations: {uncounted}")
    if manifest.weights.note:
        console.say(f"Weights: {manifest.weights.source}. {manifest.weights.note}.")
