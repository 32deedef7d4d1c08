"""What a comparison of INT8 graphs says, on disk as `compare.json`.

Rules:
    F1  A figure that there is none of is null, and a remark says why.
    F2  A result carries the fingerprint of all that it depends on, so that it is used again only
        where it would come out the same.
    F3  No path of the machine enters it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jetlift.runtime import atomic, jsonform
from jetlift.runtime.errors import ArtefactError, InputError
from jetlift.runtime.jsonform import field
from jetlift.runtime.manifest import SHA256, SampleSet, Weights

if TYPE_CHECKING:
    from pathlib import Path

TABLE_NAME = "compare.json"
_RESULTS_FOLDER = "methods"


@dataclass(frozen=True)
class RtxCheck:
    """Whether TensorRT-RTX builds the graph."""

    built: bool = field(doc="Whether an engine came out")
    told: str = field(doc="What the builder said where none did")
    int8_share: float | None = field(
        doc="Operations of weighted GEMM and convolution that its log shows in INT8, of all of "
        "them; null where it shows none"
    )


@dataclass(frozen=True)
class MethodResult:
    """One INT8 graph, judged."""

    method: str = field(doc="Its name on the command line")
    title: str = field(doc="Its name for people")
    words: str = field(doc="What was asked of it")
    options: str = field(doc="The keyword arguments it got, as JSON")
    key: str = field(doc="Fingerprint of all that the result depends on")
    versions: dict[str, str] = field(doc="Packages that made the graph")
    figures: dict[str, float] | None = field(doc="Metric to value; null where it cannot run")
    int8_share: float | None = field(
        doc="Operations of weighted GEMM and convolution in INT8, of those of the fp32 graph"
    )
    attention_int8_share: float | None = field(
        doc="The same of products of two activations; null where there are none"
    )
    size_bytes: int | None = field(doc="Size of the graph with its data")
    rtx: RtxCheck | None = field(doc="Null where it was not tried")
    remarks: tuple[str, ...] = field(doc="What went wrong, or must be known")


@dataclass(frozen=True)
class Comparison:
    """Several INT8 graphs of one part, on the same samples."""

    model: str = field(doc="The bundle's model")
    part: str = field(doc="The part")
    weights: Weights = field(doc="Where its weights come from")
    graph_sha256: str = field(doc="Hash of the fp32 graph that all began with", pattern=SHA256)
    budget: str = field(doc="The fidelity budget that the bundle's int8 variant was held to")
    judged_on: Literal["report", "search"] = field(doc="Which of the sample sets gave the figures")
    judged: SampleSet = field(doc="That set")
    calibration: SampleSet = field(doc="What the peers were calibrated on")
    searched: int = field(doc="Number of further samples that jetlift alone searched on")
    computed_by: str = field(doc="What ran every graph")
    results: tuple[MethodResult, ...] = field(doc="One per method")
    not_installed: tuple[str, ...] = field(doc="Peers that were not there, with the reason")


@dataclass(frozen=True)
class Table:
    """Comparisons side by side."""

    jetlift: str = field(doc="Version of jetlift that wrote it")
    comparisons: tuple[Comparison, ...] = field(doc="One per model and part")


def fingerprint(content: Any) -> str:  # noqa: ANN401 - whatever JSON takes
    """A short name of JSON-ready content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def kept_result(folder: Path, method: str, key: str) -> MethodResult | None:
    """A result of an earlier run, where it is one of exactly this (rule F2)."""
    path = _result_path(folder, method)
    if not path.is_file():
        return None
    try:
        result = jsonform.loads(MethodResult, path.read_bytes())
    except jsonform.FormError:
        return None  # of another version of jetlift: made again
    return result if result.key == key else None


def keep_result(folder: Path, result: MethodResult) -> None:
    """Write a result for a later run.

    Raises:
        StorageError: It cannot be written.
    """
    atomic.write_bytes(_result_path(folder, result.method), jsonform.dumps(result).encode())


def _result_path(folder: Path, method: str) -> Path:
    return folder / _RESULTS_FOLDER / f"{method}.json"


def write_table(folder: Path, table: Table) -> None:
    """Write `compare.json`.

    Raises:
        StorageError: It cannot be written.
    """
    atomic.write_bytes(folder / TABLE_NAME, jsonform.dumps(table).encode())


def read_table(folder: Path) -> Table:
    """Read the `compare.json` of a folder.

    Raises:
        InputError: There is none.
        ArtefactError: It is not of this form.
    """
    path = folder / TABLE_NAME
    if not path.is_file():
        raise InputError(
            f"{folder} has no {TABLE_NAME}", expected="A folder that a comparison wrote"
        )
    again = "Run the comparison again; what its methods gave is used again"
    with jsonform.refusing(path, ArtefactError, do=again):
        return jsonform.loads(Table, path.read_bytes())
