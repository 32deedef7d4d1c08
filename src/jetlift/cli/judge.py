"""Commands that judge: check, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.options import JsonFlag

if TYPE_CHECKING:
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.host import Host


@app.command(epilog="Example: jetlift check dinov2 --as board.json")
def check(
    path: Annotated[
        Path,
        typer.Argument(metavar="BUNDLE", help="Folder made by 'jetlift export', or one engine."),
    ],
    *,
    other: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--as",
            metavar="HOST",
            help="File that describes another machine, made there by 'jetlift doctor --host'.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify a bundle and say for each of its engines whether it would load here, and why.

    Of one engine it says the same. Nothing is loaded.
    """
    from jetlift.runtime.bundle import Bundle

    if path.is_file():
        engines, opened = [path], _bundle_around(path)
    else:
        opened = Bundle.open(path)
        engines = sorted(opened.folder.glob("engines/*/*.engine"))
    rows = _judged(engines, opened, other)
    if as_json:
        console.show_json({"bundle": opened and opened.sha256, "engines": rows})
    else:
        if opened is not None:
            console.say(f"{len(opened.manifest.files)} files are as they were exported.")
        _show_verdicts(rows)
    _refuse_first(rows)


def _refuse_first(rows: list[dict[str, Any]]) -> None:
    """An engine that can be built anew is no fault; one that was altered or has no passport is."""
    from jetlift.runtime.errors import PassportError

    refused = next((row for row in rows if row["verdict"] == "refuse"), None)
    if refused:
        name = " ".join(filter(None, (refused[key] for key in ("target", "part", "variant"))))
        raise PassportError(f"{name}: {refused['reason']}", do=refused["do"])


def _bundle_around(engine: Path) -> Bundle | None:
    """The bundle that an engine lies in, as `engines/<target>/<part>.<variant>.engine`."""
    from jetlift.runtime.bundle import MANIFEST_NAME, Bundle

    engines = engine.resolve().parent.parent
    inside = engines.name == "engines" and (engines.parent / MANIFEST_NAME).is_file()
    return Bundle.open(engines.parent) if inside else None


def _judged(engines: list[Path], bundle: Bundle | None, other: Path | None) -> list[dict[str, Any]]:
    """What is said of each engine."""
    from jetlift.engines.where import board_of
    from jetlift.runtime.host import here, read_host

    on_cpu = all(path.parent.name == "cpu" for path in engines)
    host = here(gpu=not on_cpu) if other is None else read_host(other)
    board = board_of(host)
    own_target = None if board is None else board.name
    return [_row(path, bundle, host, own_target) for path in engines]


def _row(path: Path, bundle: Bundle | None, host: Host, own_target: str | None) -> dict[str, Any]:
    from jetlift.runtime.errors import UnknownNameError
    from jetlift.runtime.passport import onnx_sha256
    from jetlift.runtime.verdict import Verdict, judge_file

    part, _, variant = path.stem.rpartition(".")
    target = None if bundle is None else path.resolve().parent.name
    try:
        graph = None if bundle is None else onnx_sha256(bundle, part, variant)
    except UnknownNameError as error:
        passport, verdict = None, Verdict("refuse", error.got, f"Remove it with: rm {path}")
    else:
        passport, verdict = judge_file(
            path, host,
            onnx_sha256=graph, target=target, own_target=own_target,
            bundle="BUNDLE" if bundle is None else str(bundle.folder),
        )  # fmt: skip
    if passport is not None:
        target, part, variant = passport.target, passport.part, passport.variant
    return {
        "engine": str(path), "target": target or "", "part": part, "variant": variant,
        "verdict": verdict.action, "reason": verdict.reason, "do": verdict.do,
        "notices": list(verdict.notices), "library": verdict.library,
    }  # fmt: skip


def _show_verdicts(rows: list[dict[str, Any]]) -> None:
    columns = ("target", "part", "variant", "verdict", "reason", "do")
    console.show_table(
        "Engines" if rows else "No engines are built",
        columns,
        [tuple(row[key] for key in columns) for row in rows],
    )
    for row in rows:
        for notice in row["notices"]:
            console.say(f"{row['target']} {row['part']} {row['variant']}: {notice}")


@app.command(epilog="Example: jetlift doctor --json")
def doctor(
    *,
    as_host: Annotated[
        bool,
        typer.Option("--host", help="Print what 'jetlift check --as' reads on another machine."),
    ] = False,
    selftest: Annotated[
        bool,
        typer.Option(
            "--selftest", help="Build and run a tiny graph with each engine library that is here."
        ),
    ] = False,
    restore_clocks: Annotated[
        bool,
        typer.Option(
            "--restore-clocks", help="Put back clocks that a killed command left fixed, and end."
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say what this machine has, what is missing, and the line that mends it."""
    from dataclasses import asdict

    from rich.console import Console

    from jetlift.doctor import examine, exit_code, show

    if restore_clocks:
        from jetlift.cli.clocks import recover_clocks

        if not recover_clocks(strict=True):
            console.say("There are no clocks to put back.")
        return
    if as_host:
        _describe_host()
        return
    findings = examine()
    if selftest:
        from jetlift.doctor import selftest as graph

        findings += graph.selftest()
    if as_json:
        console.show_json([asdict(finding) for finding in findings])
    else:
        show(findings, Console())
    if code := exit_code(findings):
        raise typer.Exit(code)


def _describe_host() -> None:
    from jetlift.runtime import jsonform
    from jetlift.runtime.host import describe, here

    console.show_json(jsonform.to_data(describe(here())))
