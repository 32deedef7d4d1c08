"""The command that makes engines, and what it tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.build_options import (
    DlaCoreOption,
    JetpackOption,
    NoTimingCacheFlag,
    OptimizationLevelOption,
    ProfileBucketsOption,
    RefitFlag,
    StripFlag,
    TimeLimitOption,
    TimingCacheOption,
    VersionCompatibleFlag,
    WorkspaceOption,
)
from jetlift.cli.options import BundleArgument, JsonFlag, TargetOption, list_of
from jetlift.engines.trt.options import BuildOptions

if TYPE_CHECKING:
    from jetlift.engines.build import BuildResult
    from jetlift.engines.handover import Handover
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.receipt import Receipt


_DEFAULTS = BuildOptions()


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
    optimization_level: OptimizationLevelOption = _DEFAULTS.optimization_level,
    workspace: WorkspaceOption = None,
    version_compatible: VersionCompatibleFlag = False,
    refit: RefitFlag = False,
    strip: StripFlag = False,
    dla_core: DlaCoreOption = None,
    profile_buckets: ProfileBucketsOption = _DEFAULTS.profile_buckets,
    timing_cache: TimingCacheOption = None,
    no_timing_cache: NoTimingCacheFlag = False,
    time_limit_s: TimeLimitOption = _DEFAULTS.time_limit_s,
    jetpack: JetpackOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compile a bundle's graphs for a target, each engine with its passport.

    Where the target is this machine, INT8 is timed against fp32 and has to be faster to be what
    runs without --precision. Where it is a board elsewhere, the graphs are checked for it, and the
    command that finishes the build on the board is told.
    """
    from jetlift.engines.build import build_for
    from jetlift.engines.handover import Handover
    from jetlift.runtime.bundle import Bundle

    options = BuildOptions(
        optimization_level=optimization_level, workspace_bytes=workspace and workspace * 2**20,
        version_compatible=version_compatible, refittable=refit, stripped=strip, dla_core=dla_core,
        profile_buckets=profile_buckets, timing_cache=timing_cache,
        keep_timing_cache=not no_timing_cache, time_limit_s=time_limit_s,
    )  # fmt: skip
    opened = Bundle.open(bundle)
    with console.stages() as report:
        built = build_for(
            opened, target, list_of(precision), options=options, race_limit_s=race_limit_s,
            jetpack=jetpack, progress=report, notify=console.say,
        )  # fmt: skip
    if isinstance(built, Handover):
        _show_handover(built, as_json=as_json)
        return
    _show_results(opened, list(built), target, as_json=as_json)
    _refuse_wider(list(built), asked=precision is not None)


def _show_handover(handover: Handover, *, as_json: bool) -> None:
    from jetlift.runtime import jsonform

    if as_json:
        console.show_json(jsonform.to_data(handover.recipe))
        return
    for sentence in handover.sentences():
        console.say(sentence)
    console.say(f"Recipe: {handover.path}")


def _show_results(
    bundle: Bundle, results: list[BuildResult], target: str, *, as_json: bool
) -> None:
    from jetlift.runtime import jsonform

    if as_json:
        console.show_json([jsonform.to_data(result.passport) for result in results])
        return
    _show_engines(results, target)
    _tell_findings(bundle, results, target)


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
    from jetlift.engines.gate import sentence
    from jetlift.engines.targets import target as target_of
    from jetlift.engines.where import is_here
    from jetlift.runtime.choice import choose_precision
    from jetlift.runtime.host import here

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
    chosen_target = target_of(target)
    if is_here(chosen_target, here(gpu=chosen_target.library != "openvino")):
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
