"""The command line. Each command gathers its arguments, calls one stage, and shows the result.

Results go to stdout, everything else to stderr; `--json` gives the result to programs. Stages are
imported inside their command, so `jetlift --help` starts at once and a device needs none of
export's tools.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from jetlift import console

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.passport import Receipt
    from jetlift.runtime.session.base import Session

# Typer evaluates annotations at run time, where Python 3.10 and Typer 0.12 want Optional.
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
BundleArgument = Annotated[Path, typer.Argument(help="Folder made by 'jetlift export'.")]
TargetOption = Annotated[
    str, typer.Option("--target", help="Where the engine runs: cpu, rtx-sm86, …")
]
ThreadsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--threads", min=1, help="Threads to compute with; the library's choice if not given."
    ),
]
PrecisionOption = Annotated[str, typer.Option("--precision", help="Variant to use.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it must not exist.")]

app = typer.Typer(
    name="jetlift",
    help="Foundation models from their weights to a measured result on an NVIDIA Jetson.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        import jetlift

        typer.echo(jetlift.__version__)
        raise typer.Exit


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
            "offline_source": f"{recipe.packaged.package}=={recipe.packaged.version}",
        }
        for recipe in RECIPES.values()
    ]
    if as_json:
        console.show_json(rows)
        return
    columns = ("model", "tasks", "parts", "parameters", "licence", "source", "offline source")
    console.show_table(
        "The zoo",
        columns,
        [
            (
                str(row["model"]),
                ", ".join(map(str, row["tasks"])),  # type: ignore[call-overload]
                ", ".join(map(str, row["parts"])),  # type: ignore[call-overload]
                f"{row['parameters']:,}",
                str(row["licence"]),
                str(row["source"]),
                str(row["offline_source"]),
            )
            for row in rows
        ],
    )


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
    weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--weights",
            help="Folder, .safetensors file, hub id, or 'package' for the offline source; "
            "the recipe's hub id if not given.",
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="Variants to make, separated by commas.")
    ] = "fp32,fp16,int8",
    samples: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--samples",
            help="Real input: pictures, a .txt file, or .npz files for your own graph. "
            "One half calibrates INT8, the other measures fidelity.",
        ),
    ] = None,
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
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep variants that miss the fidelity budget.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Turn a model's weights into a bundle: ONNX at every precision, checked and measured."""
    from jetlift.export.make import Request, export_onnx, export_recipe
    from jetlift.export.recipes import recipe
    from jetlift.runtime.errors import UsageError

    if (model is None) == (onnx is None):
        raise UsageError(
            "Got both a model and --onnx" if model else "Got neither a model nor --onnx",
            expected="One of the two: jetlift export MODEL, or jetlift export --onnx FILE",
        )
    precisions = tuple(item.strip() for item in precision.split(",") if item.strip())
    request = Request(out, precisions, samples, fidelity, keep)
    with console.stages() as report:
        if onnx is not None:
            bundle = export_onnx(onnx, request, shapes=_shapes(shape or []), report=report)
        else:
            bundle = export_recipe(recipe(str(model)), weights, request, report)
    _show_bundle(bundle, as_json=as_json)


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


@app.command(epilog="Example: jetlift build dinov2 --target rtx-sm86 --precision int8")
def build(
    bundle: BundleArgument,
    target: TargetOption = "cpu",
    *,
    precision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--precision", help="Variants to build, separated by commas; all if not given."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compile a bundle's graphs for a target, each engine with its passport."""
    from jetlift.engines.build import build as build_engines
    from jetlift.runtime import jsonform
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.errors import GateError

    with console.stages() as report:
        results = build_engines(Bundle.open(bundle), target, _list_of(precision), progress=report)
    if as_json:
        console.show_json([jsonform.to_data(result.passport) for result in results])
    else:
        rows = [
            (
                result.part,
                result.precision,
                f"{result.action}: {result.reason}",
                f"{result.passport.engine_size_bytes / 1e6:.1f}",
                f"{result.seconds:.1f}",
                _receipt_text(result.passport.receipt),
            )
            for result in results
        ]
        columns = ("part", "variant", "engine", "MB", "seconds", "what GEMM and convolution run in")
        console.show_table(f"Engines for {target}", columns, rows)
    short = [f"{r.part} {r.precision}: {r.shortfall}" for r in results if r.shortfall]
    if short:
        raise GateError(
            f"An engine runs wider than its graph asks: {'; '.join(short)}",
            expected="Every GEMM and convolution in the precision it was asked for",
            do="The engines were kept; look at their passports' receipts",
        )


def _receipt_text(receipt: Receipt) -> str:
    shares = [f"{100 * share:.1f} % {name}" for name, share in receipt.operations_share.items()]
    if receipt.unobserved_share:
        shares.append(f"{100 * receipt.unobserved_share:.1f} % not observed")
    return ", ".join(shares) or receipt.observed_by


def _list_of(text: str | None) -> list[str] | None:
    return None if text is None else [item.strip() for item in text.split(",") if item.strip()]


@app.command(epilog="Example: jetlift run dinov2 pictures/ --task embed -o results")
def run(
    bundle: BundleArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(help="Files, folders, globs, videos, /dev/video0; .txt or - for text."),
    ],
    *,
    task: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--task", help="What to do; the bundle's first task if not given."),
    ] = None,
    precision: PrecisionOption = "fp32",
    target: TargetOption = "cpu",
    fit: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--fit", help="Anomaly model made by 'jetlift fit'."),
    ] = None,
    index: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--index", help="Search index made by 'jetlift index'."),
    ] = None,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--limit", min=1, help="Stop after this many inputs (a camera never ends)."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", help="Folder for results.jsonl, arrays and pictures."),
    ] = None,
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run inputs through a bundle: embed, search or anomaly.

    Without -o the results go to stdout, one JSON object per line.
    """
    from jetlift.runtime.run import open_inputs, run_task
    from jetlift.runtime.tasks import open_task

    name = task
    with _session(bundle, precision, target, threads) as (opened, part, session):
        if name is None:
            name = opened.manifest.tasks[0] if opened.manifest.tasks else "embed"
        artefacts = {k: v for k, v in (("fit", fit), ("index", index)) if v is not None}
        bound = open_task(name, opened, session, precision=precision, part=part, **artefacts)
        show = None if out is not None else _show_line
        with (
            open_inputs(opened, part, inputs, limit=limit) as source,
            console.counting(name, source.count) as advance,
        ):
            summary = run_task(bound, source, out=out, show=show, advance=advance)
    for skipped, reason in summary.skipped:
        console.say(f"Skipped {skipped}: {reason}")
    if out is None:
        return
    if as_json:
        told = {"done": summary.done, "skipped": [list(item) for item in summary.skipped]}
        console.show_json({**told, "out": str(out)})
    else:
        console.say(f"{summary.done} done, {len(summary.skipped)} skipped. Results: {out}")


def _show_line(fields: Mapping[str, object]) -> None:
    typer.echo(json.dumps(fields, ensure_ascii=False, allow_nan=False))


def _input_part(bundle: Bundle) -> str:
    """The part that takes raw input: the only one there is, or the only one with preprocessing."""
    parts = bundle.manifest.parts
    able = [name for name, part in parts.items() if part.preprocess is not None]
    return bundle.part(able[0] if len(able) == 1 else None)[0]


@contextlib.contextmanager
def _session(
    folder: Path, precision: str, target: str, threads: int | None
) -> Iterator[tuple[Bundle, str, Session]]:
    """Open a bundle and a session of its input part, and tell what the user should know."""
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session import open_session

    opened = Bundle.open(folder)
    part = _input_part(opened)
    notices: list[str] = []
    if target == "cpu" and not opened.engine_path(target, part, precision).exists():
        console.say(
            f"No engine is built for cpu, so the {precision} graph is compiled now. "
            f"To keep one: jetlift build {folder}"
        )
    with open_session(
        opened, part, precision, target=target, threads=threads, notices=notices
    ) as session:
        for notice in notices:
            console.say(notice)
        yield opened, part, session


@app.command(epilog="Example: jetlift fit dinov2 good-pictures/ -o bricks.fit")
def fit(
    bundle: BundleArgument,
    good: Annotated[str, typer.Argument(help="Folder of pictures without defects.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the anomaly model.")],
    *,
    precision: PrecisionOption = "fp32",
    target: TargetOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Learn what good pictures look like (PaDiM), for 'jetlift run --task anomaly'."""
    from jetlift.runtime.sources import open_source
    from jetlift.runtime.tasks.anomaly_fit import fit as fit_model

    with (
        _session(bundle, precision, target, threads) as (opened, part, session),
        open_source([good]) as source,
        console.counting("fit", source.count) as advance,
    ):
        model = fit_model(
            opened, session, source,
            precision=precision, target=target, part=part, progress=lambda _done: advance(),
        )  # fmt: skip
        for skipped in source.skipped:
            console.say(f"Skipped {skipped.source}: {skipped.reason}")
    model.save(out)
    for note in model.head.notes:
        console.say(note)
    console.say(f"Threshold {model.head.threshold.value:.2f}. Written: {out}")


@app.command(epilog="Example: jetlift index dinov2 pictures/ -o pictures.index")
def index(
    bundle: BundleArgument,
    inputs: Annotated[list[str], typer.Argument(help="Folder of pictures, or texts.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the index.")],
    *,
    precision: PrecisionOption = "fp32",
    target: TargetOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Make a search index of your own pictures or texts."""
    from jetlift.runtime.run import open_inputs
    from jetlift.runtime.tasks.search import build_index

    with (
        _session(bundle, precision, target, threads) as (opened, part, session),
        open_inputs(opened, part, inputs) as source,
        console.counting("index", source.count) as advance,
    ):
        made = build_index(
            opened, session, source,
            precision=precision, target=target, part=part, progress=lambda _done: advance(),
        )  # fmt: skip
        for skipped in getattr(source, "skipped", ()):
            console.say(f"Skipped {skipped.source}: {skipped.reason}")
    made.save(out)
    console.say(f"{len(made.head.entries)} entries. Written: {out}")


@app.command(epilog="Example: jetlift search pictures.index query.jpg -o found")
def search(
    index_file: Annotated[
        Path, typer.Argument(metavar="INDEX", help="Index made by 'jetlift index'.")
    ],
    inputs: Annotated[list[str], typer.Argument(help="Pictures, or .txt files, to look for.")],
    *,
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--bundle", help="The bundle, if it is no longer where the index was made."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", help="Folder for results.jsonl and contact sheets."),
    ] = None,
    threads: ThreadsOption = None,
) -> None:
    """Find the nearest entries of an index for each input."""
    from jetlift.runtime.tasks.search import Index

    made_by = Index.load(index_file).head.stamp
    run(
        bundle or Path(made_by.bundle_folder), inputs, task="search", precision=made_by.precision,
        target=made_by.target, index=index_file, out=out, threads=threads,
    )  # fmt: skip


@app.command(epilog="Example: jetlift bench dinov2 -o report")
def bench(
    bundle: BundleArgument,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", help="Folder for record.json, report.html and report.md."),
    ] = None,
    *,
    target: TargetOption = "cpu",
    precision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--precision", help="Variants to measure; all if not given."),
    ] = None,
    samples: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--samples", help="Real input to feed instead of seeded random arrays."),
    ] = None,
    threads: ThreadsOption = None,
    time_limit_s: Annotated[
        float, typer.Option(help="Longest time to measure one variant, in seconds.")
    ] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Measure latency, throughput, TOPS and memory of every variant, each in its own process."""
    from jetlift.benchmarks.bench import bench as measure
    from jetlift.benchmarks.report import render_markdown
    from jetlift.runtime import jsonform

    with console.stages() as report:
        record = measure(
            bundle, target=target, precisions=_list_of(precision), threads=threads,
            samples=samples, out=out, time_limit_s=time_limit_s, progress=report,
        )  # fmt: skip
    if as_json:
        console.show_json(jsonform.to_data(record))
    elif out is None:
        typer.echo(render_markdown(record))
    if out is not None:
        console.say(f"Report: {out / 'report.html'}")


@app.command(epilog="Example: jetlift check dinov2")
def check(bundle: BundleArgument, *, as_json: JsonFlag = False) -> None:
    """Verify a bundle and say for each of its engines whether it would load here, and why."""
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.errors import PassportError
    from jetlift.runtime.passport import here, judge, onnx_sha256, read_passport

    opened = Bundle.open(bundle)
    rows: list[dict[str, str]] = []
    for path in sorted(opened.folder.glob("engines/*/*.engine")):
        part, _, precision = path.stem.rpartition(".")
        target = path.parent.name
        host = here(gpu=target.startswith("rtx-"))
        try:
            expected = onnx_sha256(opened, part, precision)
            verdict = judge(read_passport(path), host, path, onnx_sha256=expected)
        except PassportError as error:
            action, reason, do = "refuse", error.got, error.do
        else:
            action, reason, do = verdict.action, verdict.reason, verdict.do
        rows.append(
            {"target": target, "part": part, "variant": precision}
            | {"verdict": action, "reason": reason, "do": do}
        )
    if as_json:
        console.show_json({"bundle": opened.sha256, "engines": rows})
    else:
        console.say(f"{len(opened.manifest.files)} files are as they were exported.")
        console.show_table(
            "Engines" if rows else "No engines are built",
            ("target", "part", "variant", "verdict", "reason", "do"),
            [tuple(row.values()) for row in rows],
        )
    # An engine for another machine is no fault; one that was altered or has no passport is.
    refused = [row for row in rows if row["verdict"] == "refuse"]
    if refused:
        first = refused[0]
        raise PassportError(
            f"{first['target']} {first['variant']}: {first['reason']}", do=first["do"]
        )


@app.command(epilog="Example: jetlift doctor --json")
def doctor(*, as_json: JsonFlag = False) -> None:
    """Say what this machine has, what is missing, and the line that mends it."""
    from dataclasses import asdict

    from rich.console import Console

    from jetlift.doctor import examine, exit_code, show

    findings = examine()
    if as_json:
        console.show_json([asdict(finding) for finding in findings])
    else:
        show(findings, Console())
    if code := exit_code(findings):
        raise typer.Exit(code)
