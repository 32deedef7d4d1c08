"""From what a child measured to a result of the record: roofline, noise, fidelity, honest limits.

Rules:
    Q1  Noise never changes a figure; it marks the result and says what disturbed it.
    Q2  What a reader must not conclude is part of the record, not of the report's taste.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.benchmarks import peak
from jetlift.benchmarks.live_set import with_graph
from jetlift.engines.ops import cost_at
from jetlift.runtime.errors import MissingPackageError
from jetlift.runtime.record import Result
from jetlift.runtime.result_parts import OTHERS_BUSY, fidelity_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.benchmarks.measure import VariantAnswer
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.manifest import Cost, Part, Variant
    from jetlift.runtime.record import InputShape, Machine, Peak, Recheck

_MOVED_PERCENT = 10.0


def compose(
    bundle: Bundle,
    part_name: str,
    variant_name: str,
    answer: VariantAnswer,
    *,
    recheck: Recheck | None,
    reached: Peak | None,
    machine: Machine,
) -> Result:
    """One result of the record.

    Args:
        bundle: The bundle that was measured.
        part_name: The part.
        variant_name: The variant.
        answer: What the child measured.
        recheck: The second, brief measuring; None where it failed.
        reached: What this machine reaches, or None.
        machine: How the machine was found before the start.
    """
    part, variant = bundle.part(part_name)[1], bundle.variant(part_name, variant_name)
    cost, at_its_shape = _cost_as_fed(bundle, part, variant, answer.inputs)
    batch = answer.inputs[0].shape[0] if answer.inputs and answer.inputs[0].shape else 1
    work = peak.place(
        cost,
        answer.engine.arithmetic,
        answer.latency.p50_ms,
        reached,
        io_bytes=answer.io_bytes,
        at_opt_shape=at_its_shape,
    )
    reasons = noise(answer, recheck, machine)
    return Result(
        part=part_name,
        variant=variant_name,
        rest=variant.rest,
        parameters=part.parameters,
        engine=answer.engine,
        inputs=answer.inputs,
        batch=batch,
        latency=answer.latency,
        throughput_per_s=round(batch * 1e3 / answer.latency.mean_ms, 4),
        work=work,
        memory=with_graph(answer.memory, bundle, variant, answer),
        power_w=answer.power_w,
        others_busy=answer.others_busy,
        fidelity=variant.fidelity,
        fidelity_note=fidelity_note(bundle, variant_name, measured=variant.fidelity is not None),
        recheck=recheck,
        noisy=bool(reasons),
        noisy_reasons=reasons,
        quantisation=variant.quantisation,
        gpu_time=answer.gpu_time,
        power=answer.power,
        conditions=answer.conditions,
    )


def _cost_as_fed(
    bundle: Bundle, part: Part, variant: Variant, inputs: Sequence[InputShape]
) -> tuple[Cost, bool]:
    """What a run cost, and whether that is of the shapes that were fed.

    A manifest knows the cost at opt_shape. At others the graph is counted again, here and not in
    the child that measures; where onnx is not installed it is not.
    """
    fed = {item.name: item.shape for item in inputs}
    if all(fed[spec.name] == (spec.opt_shape or spec.shape) for spec in part.inputs):
        return variant.cost, True
    try:
        return cost_at(bundle.folder / variant.file, fed), True
    except MissingPackageError:
        return variant.cost, False


def noise(answer: VariantAnswer, recheck: Recheck | None, machine: Machine) -> tuple[str, ...]:
    """What disturbed one measurement (rule Q1); empty where nothing did."""
    reasons = []
    if (machine.busy_before.value or 0.0) > OTHERS_BUSY:
        reasons.append(f"the cores were {machine.busy_before.value:.0%} busy before the start")
    if (answer.others_busy.value or 0.0) > OTHERS_BUSY:
        reasons.append(
            f"other processes took {answer.others_busy.value:.0%} of the cores meanwhile"
        )
    if recheck is None:
        reasons.append("it could not be measured a second time")
    elif abs(recheck.moved_percent) > _MOVED_PERCENT:
        reasons.append(f"the median moved by {recheck.moved_percent:+.0f}% when measured again")
    if not answer.latency.warmup_settled:
        reasons.append("the latency had not settled when warm-up reached its limit")
    if answer.conditions is not None:
        reasons += answer.conditions.unsteady
    return tuple(reasons)


def not_shown(target: str, results: Sequence[Result], *, random_inputs: bool) -> tuple[str, ...]:
    """What a reader must not conclude from the figures (rule Q2)."""
    told = []
    if target.startswith("cpu"):
        told.append(
            "Not run on a Jetson. These are times of this machine's processor: they say which "
            "variant is smaller, faster and true to fp32 here, and nothing of a Jetson's speed."
        )
    wide = {
        result.engine.arithmetic for result in results if "fp16" in (result.variant, result.rest)
    }
    if "f32" in wide:
        told.append(
            "fp16 was stored in 16 bits and computed in 32, as this processor does it: neither its "
            "speed nor its fidelity shows what fp16 arithmetic does on a GPU."
        )
    told += [
        (
            "Only the engine is timed, arrays in to arrays out. Reading, decoding and preparing "
            "pictures or text, and what is done with the outputs, come on top."
        ),
        "Each latency is of one run after another from one caller.",
    ]
    if random_inputs:
        told.append(
            "The inputs were random arrays. That does not matter to a graph without data-dependent "
            "control flow; real samples can be fed with --samples."
        )
    if any(result.noisy for result in results):
        told.append(
            "Something disturbed this machine meanwhile. Its peak was measured under the same "
            "disturbance, so shares of it are as uncertain as the latencies."
        )
    reasons = {result.power_w.reason for result in results if result.power_w.value is None}
    told += [f"Power was not measured: {reason}." for reason in sorted(reasons)]
    told.append(
        "The roofline counts what a run has to move at least: weights, inputs and outputs, once. "
        "Intermediate results that leave the caches come on top; a cache that keeps the weights "
        "from run to run takes off."
    )
    return tuple(told)
