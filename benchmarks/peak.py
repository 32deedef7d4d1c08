"""What this machine reaches at best, measured, and where a model stands under that roof.

Rules:
    K1  The compute peak is the best run of several large matrix products that the engine library
        itself computes, with the threads that the models get: a rate that was seen.
    K2  A product counts for a precision only if the compiled graph says that it ran in it.
    K3  The memory peak is a STREAM-like copy: bytes read plus bytes written, by as many threads,
        between arrays too large for the caches (https://www.cs.virginia.edu/stream/ref.html).
    K4  Nothing is cached between measurements: clocks and neighbours change.
    K5  The roof is the roofline model's: a run takes at least the longer of its operations at the
        compute peak of their precision and its bytes at the memory peak (Williams, Waterman and
        Patterson, 2009, https://doi.org/10.1145/1498765.1498785). Bytes are those that any run has
        to move: weights, inputs and outputs, once. Intermediate results are left out, since fusion
        and caches decide how many of them move.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jetlift.jetson import board
from jetlift.runtime.record import ComputePeak, Figure, Peak, Work
from jetlift.runtime.result_parts import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from jetlift.runtime.manifest import Cost

    Floats = npt.NDArray[np.float32]

SIZES = (1024, 2048)
_CHAIN = 2  # products one after another: input and output traffic then weighs less
_MIN_RUNS = 3
_COPY_RUNS = 5
_MIN_COPY_BYTES = 64 * 2**20
_ARITHMETIC_PEAK = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
_LAYERS = {"fp32": ("f32",), "int8": ("i8", "u8")}


def measure_peak(
    *,
    threads: int | None,
    time_limit_s: float,
    sizes: Sequence[int] = SIZES,
    copy_bytes: int | None = None,
) -> Peak:
    """Measure this machine with OpenVINO and numpy (rules K1 to K4).

    Args:
        threads: Threads to compute with, or None for OpenVINO's choice.
        time_limit_s: Seconds for the products, roughly; each graph runs at least three times.
        sizes: Edges of the square matrices.
        copy_bytes: Size of the copies; None takes four times the last cache (rule K3).

    Raises:
        MissingPackageError: OpenVINO is not installed.
        EngineLibraryError: OpenVINO failed.
    """
    from jetlift.runtime.session import openvino as ov

    graphs = list(_graphs(sizes))
    best: dict[str, tuple[float, str]] = {}
    used = threads or 1
    with ov.failures("measure this machine's peak"):
        for precision, size, how, model in graphs:
            compiled = ov.core().compile_model(model, "CPU", ov.configuration("f32", threads))
            used = int(compiled.get_property("INFERENCE_NUM_THREADS"))
            if not _ran_in(_LAYERS[precision], ov.executed_layers(compiled)):  # K2
                continue
            run_s = _best_run_s(compiled, size, time_limit_s / len(graphs))
            tops = _CHAIN * 2 * size**3 / run_s / 1e12
            best[precision] = max(best.get(precision, (0.0, "")), (tops, how))
    rate, how = _copy_rate(used, copy_bytes)
    return Peak(
        compute={name: _compute_peak(name, best) for name in _LAYERS},
        memory_gb_per_s=Figure(round(rate, 3)),
        memory_how=how,
        library="openvino",
        version=ov.version(),
        threads=used,
    )


def _compute_peak(precision: str, best: Mapping[str, tuple[float, str]]) -> ComputePeak:
    if precision not in best:
        reason = f"OpenVINO did not compute the {precision} products in {precision} here"
        return ComputePeak(Figure.missing(reason), "")
    tops, how = best[precision]
    return ComputePeak(Figure(round(tops, 5)), how)


def _graphs(sizes: Sequence[int]) -> Iterator[tuple[str, int, str, Any]]:
    """Products to try: precision, size, description, OpenVINO model."""
    rng = np.random.default_rng(0)
    for size in sizes:
        weights = rng.uniform(-1, 1, (size, size)).astype(np.float32) / np.float32(size)
        shape = f"{_CHAIN} products of {size} x {size} x {size}"
        yield "fp32", size, f"{shape} with constant weights", _chain(size, weights, int8=False)
        yield "fp32", size, f"{shape} of two inputs", _chain(size, None, int8=False)
        yield (
            "int8",
            size,
            f"{shape}, symmetric Q/DQ, constant weights",
            _chain(size, weights, int8=True),
        )


def _chain(size: int, weights: Floats | None, *, int8: bool) -> Any:  # noqa: ANN401 - the library ships no types
    import openvino
    from openvino import opset13 as ops

    first = ops.parameter([size, size], np.float32)
    inputs, value = [first], first
    factor = ops.parameter([size, size], np.float32) if weights is None else ops.constant(weights)
    if weights is None:
        inputs.append(factor)
    elif int8:
        factor = _quantized(ops, factor, 1 / size, levels=255)
    for _ in range(_CHAIN):
        value = _quantized(ops, value, 1.0, levels=256) if int8 else value
        # The second factor lies transposed, as the weights of a linear layer do.
        value = ops.matmul(value, factor, transpose_a=False, transpose_b=True)
    return openvino.Model([value], inputs, "peak")


def _quantized(ops: Any, value: Any, limit: float, *, levels: int) -> Any:  # noqa: ANN401
    low = np.float32(-limit)
    high = np.float32(limit if levels == 255 else limit * 127 / 128)
    return ops.fake_quantize(value, *map(ops.constant, (low, high, low, high)), levels)


def _ran_in(wanted: tuple[str, ...], layers: list[Any]) -> bool:
    products = [layer for layer in layers if layer.kind in ("FullyConnected", "MatMul")]
    return len(products) >= _CHAIN and all(layer.arithmetic in wanted for layer in products)


def _best_run_s(compiled: Any, size: int, limit_s: float) -> float:  # noqa: ANN401
    request = compiled.create_infer_request()
    array = np.random.default_rng(1).uniform(-1, 1, (size, size)).astype(np.float32)
    feeds = dict.fromkeys(range(len(compiled.inputs)), array)
    return best_of(
        lambda: request.infer(feeds, share_inputs=True, share_outputs=True),
        limit_s=limit_s,
        min_runs=_MIN_RUNS,
        clock=time.perf_counter,
    )


def best_of(
    run: Callable[[], object], *, limit_s: float, min_runs: int, clock: Callable[[], float]
) -> float:
    """Seconds of the fastest of at least `min_runs` runs, after one that does not count."""
    run()
    start_s, best_s, runs = clock(), float("inf"), 0
    while runs < min_runs or clock() - start_s < limit_s:
        before_s = clock()
        run()
        best_s, runs = min(best_s, clock() - before_s), runs + 1
    return best_s


def _copy_rate(threads: int, copy_bytes: int | None) -> tuple[float, str]:
    """Memory rate in 10^9 bytes per second, and how it was measured (rule K3)."""
    size = copy_bytes or _copy_bytes(board.last_cache_bytes(), board.available_bytes())
    source, destination = np.ones(size // 8), np.zeros(size // 8)
    destination.fill(2.0)  # touches every page: the system hands out zeroed memory only on use
    pairs = list(
        zip(np.array_split(source, threads), np.array_split(destination, threads), strict=True)
    )

    with ThreadPoolExecutor(threads) as pool:  # numpy lets go of the GIL while it copies

        def copy() -> None:
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))

        run_s = best_of(copy, limit_s=0.0, min_runs=_COPY_RUNS, clock=time.perf_counter)
    how = f"copies of {size / 2**20:.0f} MiB by {threads} threads, read plus written (STREAM-like)"
    return 2 * size / run_s / 1e9, how


def _copy_bytes(cache_bytes: int | None, free_bytes: int | None) -> int:
    """Four times the last cache, as STREAM asks, but never more than an eighth of free memory."""
    wanted = max(4 * (cache_bytes or 0), _MIN_COPY_BYTES)
    return wanted if free_bytes is None else max(min(wanted, free_bytes // 8), 2**20)


def place(
    cost: Cost,
    arithmetic: str,
    p50_ms: float,
    peak: Peak | None,
    *,
    io_bytes: int,
    at_opt_shape: bool,
) -> Work:
    """Where a variant stands under the machine's roof (rule K5).

    Operations outside GEMM and convolution, and those of precisions that the engine computes in its
    wide arithmetic (FP16 on a processor that runs it in FP32), count at that arithmetic's peak.

    Args:
        cost: The manifest's, of one run at opt_shape.
        arithmetic: What the engine computes its wide parts in.
        p50_ms: Median latency.
        peak: What the machine reaches, or None.
        io_bytes: Bytes of all inputs and outputs.
        at_opt_shape: Whether the run had the shapes that `cost` is for.
    """
    compute_ms, reason = _compute_ms(cost, arithmetic, peak)
    work = counted(
        cost, p50_ms, io_bytes=io_bytes, at_opt_shape=at_opt_shape, no_peak=reason or "no peak"
    )
    if compute_ms is None or work.moved_bytes.value is None:
        return work
    bound, binds = _bound(compute_ms, work.moved_bytes.value, peak)
    share = Figure(round(compute_ms / p50_ms, 5))
    return replace(work, share_of_peak=share, bound_ms=bound, binds=binds)


def _bound(
    compute_ms: float, moved: float, peak: Peak | None
) -> tuple[Figure, Literal["compute", "memory"] | None]:
    rate = peak.memory_gb_per_s.value if peak is not None else None
    if not rate:
        return Figure.missing("the memory rate was not measured"), None
    memory_ms = moved / rate / 1e6
    bound = Figure(round(max(compute_ms, memory_ms), 6))
    return bound, "compute" if compute_ms >= memory_ms else "memory"


def _compute_ms(cost: Cost, arithmetic: str, peak: Peak | None) -> tuple[float | None, str]:
    """Time of all operations at peak, or None with the reason."""
    if peak is None:
        return None, "this machine's peak was not measured"
    wide = _ARITHMETIC_PEAK.get(arithmetic, arithmetic)
    narrow = cost.operations_by_precision.get("int8", 0.0)
    total_ms = 0.0
    for precision, count in ((wide, cost.operations - narrow), ("int8", narrow)):
        known = peak.compute.get(precision)
        if count > 0 and (known is None or known.tops.value is None):
            return None, f"the peak of {precision} was not measured on this machine"
        if count > 0 and known is not None and known.tops.value:
            total_ms += count / known.tops.value / 1e9
    return total_ms, ""
