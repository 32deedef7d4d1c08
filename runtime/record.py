"""What `record.json` says: one measurement, with everything needed to repeat it.

Rules:
    R1  A figure that was not measured is null with its reason, never zero and never left out.
    R2  Every latency that was timed is kept, so that any statistic can be made again; of a run
        without end, the latest ones, and `not_shown` says so.
    R3  Times are in milliseconds, sizes in bytes; operations count a multiply-add as two (MAC x 2).
    R4  No path of the machine that measured enters a record, so that records can be published.
The published schema is docs/schemas/record.schema.json, generated from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.runtime import atomic, jsonform
from jetlift.runtime.budget_form import BudgetVerdict  # noqa: TC001 - jsonform reads the hints
from jetlift.runtime.errors import ArtefactError, InputError
from jetlift.runtime.figure import Figure
from jetlift.runtime.jsonform import field
from jetlift.runtime.layer_form import LayerTime  # noqa: TC001 - jsonform reads the hints
from jetlift.runtime.manifest import (
    MODEL,
    SHA256,
    DType,
    Fidelity,
    Quantisation,
    Weights,
)
from jetlift.runtime.power_form import Conditions, Power  # noqa: TC001 - jsonform reads the hints
from jetlift.runtime.run_form import RunFacts  # noqa: TC001
from jetlift.runtime.scenario_form import (  # noqa: TC001
    ColdStart,
    NotDone,
    Scenario,
    SweepPoint,
)
from jetlift.runtime.timing_form import GpuTime, MemoryParts

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Figure"]

SCHEMA_VERSION = 1
RECORD_NAME = "record.json"
UTC_SECOND = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"

_NOT_COUNTED = Figure.missing("outliers were not counted")
_GPU_UNSEEN = GpuTime.missing(Figure.missing("the jetlift that measured did not look"))
StoppedBy = Literal["precision", "time limit", "run limit", "end of the run"]


@dataclass(frozen=True)
class Machine:
    """The machine that measured, as far as it tells."""

    cpu: str = field(doc="Model name of the processor, or of the board")
    architecture: str = field(doc="As in x86_64 or aarch64")
    cores: int = field(doc="Logical cores this process may use")
    memory_bytes: Figure = field(doc="Physical memory")
    os: str = field(doc="Name and version of the operating system")
    kernel: str = field(doc="Name and release of the kernel")
    python: str = field(doc="Version of Python")
    virtual: bool = field(doc="Whether the processor says that it runs under a hypervisor")
    governor: str | None = field(doc="Frequency governor of the first core; null if unreadable")
    frequency_mhz: Figure = field(doc="Frequency of the first core just before the start")
    load_1min_before: Figure = field(doc="Load average over the minute before the start")
    busy_before: Figure = field(doc="Share of all cores that was busy just before the start, 0..1")


@dataclass(frozen=True)
class Settings:
    """How the measuring was set up."""

    min_runs: int = field(doc="Timed runs before the precision rule may stop")
    max_runs: int = field(doc="Timed runs after which it stops in any case")
    time_limit_s: float = field(doc="Seconds of timed runs after which it stops in any case")
    half_width_percent: float = field(
        doc="Stops when the confidence interval of the median reaches at most this many percent "
        "of the median to either side"
    )
    confidence: float = field(doc="Confidence of that interval, 0..1")
    warmup_max_runs: int = field(doc="Untimed runs at most")
    warmup_limit_s: float = field(doc="Seconds of untimed runs at most")
    threads: int | None = field(doc="Threads asked for; null where the engine library chooses")
    seed: int = field(doc="Seed of the random inputs")
    inputs: str = field(doc="Where the inputs come from")


@dataclass(frozen=True)
class ComputePeak:
    """The best rate of large matrix products that was seen in one precision."""

    tops: Figure = field(doc="Tera-operations per second, MAC x 2")
    how: str = field(doc="The graph that reached it")


@dataclass(frozen=True)
class Peak:
    """What this machine reaches, for the roofline: measured, or by the facts of its board."""

    compute: dict[str, ComputePeak] = field(doc="Per precision, as in fp32 and int8")
    memory_gb_per_s: Figure = field(doc="Bytes read plus bytes written per second, in 10^9")
    memory_how: str = field(doc="How the memory rate was measured")
    library: str = field(doc="Engine library that computed the products")
    version: str = field(doc="Its version")
    threads: int | None = field(doc="Threads used; null where nothing was measured")
    basis: Literal["measured", "facts"] = field(
        doc="Whether it was measured, or is a board's dense peak in its power mode and clocks",
        default="measured",
    )


@dataclass(frozen=True)
class Engine:
    """The engine that was measured."""

    library: str = field(doc="Engine library")
    version: str = field(doc="Its version")
    arithmetic: str = field(doc="What the wide parts compute in, as the library reports it")
    threads: int | None = field(doc="Threads it computes with; null where decided per call")
    device: str = field(doc="Processor, as the library names it")
    size_bytes: Figure = field(doc="Size of the engine file")
    load_ms: float = field(doc="From nothing to a session, the library's import included")
    notices: tuple[str, ...] = field(doc="What the session said while it was opened")


@dataclass(frozen=True)
class InputShape:
    """One input as it was fed."""

    name: str = field(doc="Name of the graph input")
    dtype: DType = field(doc="Element type")
    shape: tuple[int, ...] = field(doc="Shape fed")


@dataclass(frozen=True)
class Latency:
    """Time of one run, arrays in to arrays out, over many runs one after another."""

    samples_ms: tuple[float, ...] = field(doc="Every timed run, in order")
    min_ms: float = field(doc="Fastest run")
    mean_ms: float = field(doc="Arithmetic mean")
    p50_ms: float = field(doc="Median")
    p90_ms: Figure = field(doc="90th percentile; asks for 10 runs")
    p99_ms: Figure = field(doc="99th percentile; asks for 100 runs")
    p50_low_ms: Figure = field(doc="Lower end of the median's confidence interval")
    p50_high_ms: Figure = field(doc="Upper end of the median's confidence interval")
    stopped_by: StoppedBy = field(doc="The rule that ended the measuring")
    warmup_ms: tuple[float, ...] = field(doc="Every warm-up run, in order; in no other figure")
    warmup_settled: bool = field(doc="False where warm-up ended at its limit, still changing")
    outlier_above_ms: Figure = field(
        doc="p75 + 3 (p75 - p25); runs above it are outliers, counted and in every figure. Asks "
        "for 20 runs",
        default=_NOT_COUNTED,
    )
    outlier_share: Figure = field(
        doc="Share of the timed runs above that, 0..1", default=_NOT_COUNTED
    )


@dataclass(frozen=True)
class Work:
    """What one run asks of the machine and what it got, after the manifest's Cost."""

    operations: Figure = field(doc="Operations of one run at the shapes fed")
    operations_by_precision: dict[str, float] = field(doc="Of GEMM and convolution, per precision")
    weight_bytes: Figure = field(doc="Bytes of constants as stored in the graph")
    activation_bytes: Figure = field(doc="Bytes of every intermediate tensor once, unfused")
    moved_bytes: Figure = field(
        doc="Bytes that one run has to move at least: weights, inputs and outputs, each once"
    )
    intensity: Figure = field(doc="Operations per byte of moved_bytes")
    achieved_tops: Figure = field(doc="Operations over the median latency, in 10^12 per second")
    share_of_peak: Figure = field(
        doc="Time the operations need at the peak of their precision, over the median"
    )
    bound_ms: Figure = field(doc="Roofline: the longer of compute time and memory time at peak")
    binds: Literal["compute", "memory"] | None = field(doc="Which of the two is longer")


@dataclass(frozen=True)
class Memory:
    """Memory of the process that measured and did nothing else."""

    rss_before_load_bytes: Figure = field(doc="Resident before the engine library is imported")
    rss_after_load_bytes: Figure = field(doc="Resident once the session is open")
    rss_peak_bytes: Figure = field(doc="Most ever resident (VmHWM), to the end of the timed runs")
    pss_after_runs_bytes: Figure = field(doc="Proportional share (shared pages divided) at the end")
    rss_after_runs_bytes: Figure = field(
        doc="Resident after the timed runs: the steady state",
        default=Figure.missing("the jetlift that measured did not look"),
    )
    parts: MemoryParts = field(doc="Where it went", default=MemoryParts())


@dataclass(frozen=True)
class Recheck:
    """A second, brief measuring of the same variant after all others, in a fresh process."""

    runs: int = field(doc="Timed runs")
    p50_ms: float = field(doc="Their median")
    moved_percent: float = field(doc="How far it lies from the first median, in percent of that")


@dataclass(frozen=True)
class Result:
    """One variant of one part, measured."""

    part: str = field(doc="Part of the model")
    variant: str = field(doc="Variant, as in fp32 or int8")
    rest: str = field(doc="What runs outside weighted GEMM and convolution, as the graph types it")
    parameters: int = field(doc="Trained parameters of the part")
    engine: Engine = field(doc="The engine")
    inputs: tuple[InputShape, ...] = field(doc="Inputs as fed")
    batch: int = field(doc="Items per run")
    latency: Latency = field(doc="Time of one run")
    throughput_per_s: float = field(doc="Items per second, one run after another: batch over mean")
    work: Work = field(doc="Operations and roofline")
    memory: Memory = field(doc="Memory of the measuring process")
    power_w: Figure = field(doc="Mean power while measuring")
    others_busy: Figure = field(
        doc="Share of all cores that went to other processes or was stolen by the host while timing"
    )
    fidelity: Fidelity | None = field(doc="From the bundle; null where it has none")
    fidelity_note: str = field(doc="Why fidelity is null, or what the reference is")
    recheck: Recheck | None = field(doc="Null where it was not measured again")
    noisy: bool = field(doc="Whether something disturbed the measuring")
    noisy_reasons: tuple[str, ...] = field(doc="What did")
    quantisation: Quantisation | None = field(
        doc="How its INT8 was made, from the bundle; null for other variants", default=None
    )
    power: Power | None = field(
        doc="Supplies while measuring; null where no sensor could be read", default=None
    )
    conditions: Conditions | None = field(
        doc="The board while measuring; null where it tells nothing", default=None
    )
    gpu_time: GpuTime = field(doc="The GPU's own clock, by events", default=_GPU_UNSEEN)
    layers: tuple[LayerTime, ...] = field(doc="Slowest first, where asked for", default=())


@dataclass(frozen=True)
class Failed:
    """A variant that could not be measured."""

    part: str = field(doc="Part of the model")
    variant: str = field(doc="Variant")
    reason: str = field(doc="What happened, and what to do")


@dataclass(frozen=True)
class Record:
    """The whole of record.json."""

    schema_version: int = field(doc="Version of this schema")
    jetlift: str = field(doc="Version of jetlift that measured")
    measured_utc: str = field(doc="When the measuring began", pattern=UTC_SECOND)
    command: str = field(doc="The command line that measures the same again")
    packages: dict[str, str] = field(doc="Versions of the packages that took part")
    model: str = field(doc="The bundle's model", pattern=MODEL)
    bundle_sha256: str = field(doc="Hash of bundle.json, which names all others", pattern=SHA256)
    weights: Weights = field(doc="Where the bundle's weights come from")
    target: str = field(doc="Target, as in cpu")
    machine: Machine = field(doc="The machine")
    settings: Settings | None = field(
        doc="How it was measured; null where a run was recorded, which `run` describes"
    )
    peak: Peak | None = field(doc="What the machine reaches; null where it was not measured")
    peak_note: str = field(doc="Why peak is null; empty where it is not")
    results: tuple[Result, ...] = field(doc="In the order measured")
    failed: tuple[Failed, ...] = field(doc="Variants that could not be measured")
    noisy: bool = field(doc="Whether any result is")
    not_shown: tuple[str, ...] = field(doc="What a reader must not conclude from these figures")
    run: RunFacts | None = field(
        doc="The run that this was measured on; null where a benchmark measured", default=None
    )
    sweep: tuple[SweepPoint, ...] = field(doc="Batches and callers, where asked for", default=())
    scenarios: tuple[Scenario, ...] = field(doc="Scenarios, where asked for", default=())
    cold_starts: tuple[ColdStart, ...] = field(doc="Cold starts, where asked for", default=())
    not_done: tuple[NotDone, ...] = field(
        doc="Points, scenarios, cold starts and layers that were asked for and could not be",
        default=(),
    )
    budget: BudgetVerdict | None = field(
        doc="The verdict of a benchmark's budget; null where none was given. A run's is in `run`",
        default=None,
    )


def write_record(record: Record, path: Path) -> None:
    """Write a record atomically.

    Raises:
        StorageError: The disk is full or not writable.
    """
    atomic.write_bytes(path, jsonform.dumps(record).encode())


def read_record(path: Path) -> Record:
    """Read a record that some jetlift wrote.

    Raises:
        InputError: There is no file at `path`.
        ArtefactError: It is not a record, or one of another schema.
    """
    try:
        text = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(
            f"{path} is not a file",
            expected=f"A {RECORD_NAME} that 'jetlift bench -o DIR' wrote",
            do="Name the record, or measure with: jetlift bench BUNDLE -o DIR",
        ) from error
    try:
        record = jsonform.loads(Record, text)
    except ValueError as error:  # FormError, or a Figure that contradicts itself
        raise ArtefactError(
            f"{path} is refused as a record: {error}", do="Measure again with: jetlift bench"
        ) from error
    if record.schema_version != SCHEMA_VERSION:
        raise ArtefactError(
            f"{path} has schema version {record.schema_version}",
            expected=f"This jetlift reads version {SCHEMA_VERSION}",
            do=f"Read it with the jetlift that wrote it ({record.jetlift}), or measure again",
        )
    return record
