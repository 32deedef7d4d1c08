"""The command that makes engines, and what it tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.options import BundleArgument, JsonFlag, TargetOption, list_of

if TYPE_CHECKING:
    from jetlift.engines.build import BuildResult
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.receipt import Receipt


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
    race_limit_s: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Seconds per part to time INT8 against fp32 on this machine. Where INT8 is not "
            "faster, fp32 keeps its place. 0 leaves it untimed.",
        ),
    ] = 15.0,
    as_json: JsonFlag = False,
) -> None:
    """Compile a bundle's graphs for a target, each engine with its passport.

    Where the target is this machine, INT8 is timed against fp32 and has to be faster to be what
    runs without --precision.
    """
    from jetlift.engines.build import build as build_engines
    from jetlift.runtime import jsonform
    from jetlift.runtime.bundle import Bundle

    opened = Bundle.open(bundle)
    with console.stages() as report:
        results = build_engines(
            opened, target, list_of(precision), race_limit_s=race_limit_s, progress=report
        )
    if as_json:
        console.show_json([jsonform.to_data(result.passport) for result in results])
    else:
        _show_engines(results, target)
        _tell_findings(opened, results, target)
    _refuse_wider(results, asked=precision is not None)


def _show_engines(results: list[BuildResult], target: str) -> None:
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


def _tell_findings(bundle: Bundle, results: list[BuildResult], target: str) -> None:
    """What the receipts prove, who earned its place, and what runs from now on."""
    from jetlift.engines.gate import runs_here, sentence
    from jetlift.engines.targets import target as target_of
    from jetlift.runtime.choice import choose_precision

    for proof in dict.fromkeys(r.passport.receipt.proves for r in results):
        if proof:
            console.say(f"{proof}.")
    for result in results:
        receipt = result.passport.receipt
        if receipt.outcome == "not observed":
            console.say(
                f"{result.part} {result.precision}: the receipt is no pass, since "
                f"{receipt.unobserved_share:.1%} could not be observed ({receipt.observed_by})."
            )
        if result.widened:
            console.say(f"Target {target}, {result.part} {result.precision}: {result.widened}.")
        if told := sentence(bundle, result):
            console.say(told)
    if runs_here(target_of(target)):
        for part in dict.fromkeys(result.part for result in results):
            chosen = choose_precision(bundle, part, target)
            console.say(f"Without --precision, {part} runs {chosen} on {target}.")


def _refuse_wider(results: list[BuildResult], *, asked: bool) -> None:
    """A gate: nothing narrow runs wider; what was asked for by name, not by the target's rule."""
    from jetlift.runtime.errors import GateError

    short = [
        f"{result.part} {result.precision}: {told}"
        for result in results
        for told in (result.shortfall, result.widened if asked else "")
        if told
    ]
    if short:
        raise GateError(
            f"An engine runs wider than its graph asks: {'; '.join(short)}",
            expected="Every GEMM and convolution in the precision it was asked for",
            do="The engines were kept; look at their passports' receipts",
        )


def _receipt_text(receipt: Receipt) -> str:
    if receipt.seen is None:
        return receipt.observed_by
    shares = [f"{share:.1%} {name}" for name, share in receipt.operations_share.items()]
    if receipt.unobserved_share:
        shares.append(f"{receipt.unobserved_share:.1%} not observed")
    text = ", ".join(shares) or "nothing"
    if receipt.int8_layers:
        share = receipt.seen.weighted_operations.get("int8", 0.0)
        text += f"; INT8 share {share:.1%} in {receipt.int8_layers} layers"
    return text
