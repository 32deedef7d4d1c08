"""Commands that measure and judge: bench, check, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.options import BundleArgument, JsonFlag, TargetOption, ThreadsOption, list_of


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
    ] = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Measure latency, throughput, TOPS and memory of every variant, each in its own process."""
    from jetlift.benchmarks.bench import bench as measure
    from jetlift.benchmarks.report import render_markdown
    from jetlift.runtime import jsonform

    with console.stages() as report:
        record = measure(
            bundle, target=target, precisions=list_of(precision), threads=threads,
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
