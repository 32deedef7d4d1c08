"""What a side by side says, on disk as `peers.json` and one file per case.

Rules:
    F1  A contender that did not run is a row with its reason; a figure there is none of is null
        with a reason.
    F2  A case carries the fingerprint of all that it depends on, so that an interrupted run goes on
        and nothing stale is used.
    F3  No path of the machine enters it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jetlift.runtime import atomic, jsonform
from jetlift.runtime.figure import Figure  # noqa: TC001 - jsonform reads the hints at run time
from jetlift.runtime.jsonform import field
from jetlift.runtime.record import Machine  # noqa: TC001

if TYPE_CHECKING:
    from pathlib import Path

TABLE_NAME = "peers.json"
_CASES = "cases"

State = Literal["ran", "not installed", "failed"]
Verdict = Literal["met", "missed", "not measured"]


@dataclass(frozen=True)
class Ratio:
    """How many times as long as another a contender takes: median of what each round says."""

    to: str = field(doc="Name of the other")
    ratio: Figure = field(doc="Time of this one over time of the other")
    low: Figure = field(doc="Lower end of its 95 % interval, from order statistics")
    high: Figure = field(doc="Upper end")


@dataclass(frozen=True)
class ContenderResult:
    """One way to the result, measured."""

    name: str = field(doc="Its name in the case")
    title: str = field(doc="Its name for people")
    precision: str = field(doc="What it computes in, in words")
    note: str = field(doc="What must be known of it; empty if nothing")
    state: State = field(doc="Whether it ran")
    told: str = field(doc="Why it did not run; empty where it did")
    versions: dict[str, str] = field(doc="Packages that make the result")
    loaded_s: Figure = field(doc="Seconds from the child's inputs to its first result")
    peak_bytes: Figure = field(doc="Most memory that the process ever held")
    turns_ms: tuple[float, ...] = field(doc="Median of each turn, one a round, in order")
    median_ms: Figure = field(doc="Median of the turns")
    ratios: tuple[Ratio, ...] = field(doc="To each of jetlift's own rows that ran")
    agreement: dict[str, float] = field(doc="How near its outputs are to the reference's")
    right: bool | None = field(doc="Whether that is near enough; null where there is no comparing")


@dataclass(frozen=True)
class CaseResult:
    """One model on one kind of input, all contenders interleaved."""

    name: str = field(doc="Its name on the command line")
    title: str = field(doc="What is computed")
    words: str = field(doc="Weights, input and what all ways have in common")
    key: str = field(doc="Fingerprint of all that the result depends on")
    threads: int = field(doc="Threads that every contender was given")
    rounds: int = field(doc="Rounds that were timed")
    load_before: Figure = field(doc="Load average over the minute before the first round")
    reference: str = field(doc="The contender whose outputs the others are compared with")
    ours: tuple[str, ...] = field(doc="Names of jetlift's own rows")
    fidelity: str = field(doc="What the bundle says of its int8 variant; empty without one")
    contenders: tuple[ContenderResult, ...] = field(doc="One per way, in the case's order")


@dataclass(frozen=True)
class GoalResult:
    """One goal, judged."""

    words: str = field(doc="The goal in words")
    case: str = field(doc="The case")
    ours: str = field(doc="jetlift's row")
    peer: str = field(doc="The other row")
    wanted: float = field(doc="Least ratio of the other's time to jetlift's")
    ratio: Figure = field(doc="The ratio")
    verdict: Verdict = field(doc="Whether it is met at the recipe's fidelity budget")
    told: str = field(doc="Why it is not, or could not be measured; empty where it is met")


@dataclass(frozen=True)
class PeersTable:
    """A whole side by side."""

    jetlift: str = field(doc="Version of jetlift")
    measured_at: str = field(doc="When the table was written, UTC")
    machine: Machine = field(doc="Where, and how busy it was before anything began")
    cases: tuple[CaseResult, ...] = field(doc="One per model and kind of input")
    goals: tuple[GoalResult, ...] = field(doc="What was to be reached")
    left_out: tuple[str, ...] = field(doc="Cases that were not measured, with the reason")


def fingerprint(content: Any) -> str:  # noqa: ANN401 - whatever JSON takes
    """A short name of JSON-ready content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def kept_case(folder: Path, name: str, key: str) -> CaseResult | None:
    """A case of an earlier run, where it is one of exactly this (rule F2)."""
    path = folder / _CASES / f"{name}.json"
    if not path.is_file():
        return None
    try:
        result = jsonform.loads(CaseResult, path.read_bytes())
    except jsonform.FormError:
        return None  # of another version of jetlift: measured again
    return result if result.key == key else None


def keep_case(folder: Path, result: CaseResult) -> None:
    """Write a case for a later run.

    Raises:
        StorageError: It cannot be written.
    """
    path = folder / _CASES / f"{result.name}.json"
    atomic.write_bytes(path, jsonform.dumps(result).encode())


def write_table(folder: Path, table: PeersTable) -> None:
    """Write `peers.json`.

    Raises:
        StorageError: It cannot be written.
    """
    atomic.write_bytes(folder / TABLE_NAME, jsonform.dumps(table).encode())
