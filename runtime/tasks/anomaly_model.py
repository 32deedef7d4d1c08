"""An anomaly model in memory and on disk: what good pictures look like, by PaDiM or PatchCore."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from jetlift.runtime.errors import ArtefactError, UnknownNameError
from jetlift.runtime.jsonform import field
from jetlift.runtime.tasks import artefact
from jetlift.runtime.tasks.padim import Gaussians, Padim
from jetlift.runtime.tasks.patchcore import Memory

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = dict[str, npt.NDArray[Any]]

SCHEMA_VERSION = 1
KIND: Literal["jetlift-anomaly-model"] = "jetlift-anomaly-model"
Method = Literal["padim", "patchcore"]
_WHAT = "an anomaly model"


@dataclass(frozen=True)
class Threshold:
    """Where anomalous begins, and what that rests on."""

    value: float = field(doc="A picture with this score or more is called anomalous")
    rule: str = field(doc="How it was chosen")
    held_out: bool = field(doc="Whether the scores come from pictures the scoring model never saw")
    score_mean: float = field(doc="Mean score of the good pictures")
    score_std: float = field(doc="Standard deviation of the good pictures' scores")
    score_max: float = field(doc="Highest score of a good picture")


@dataclass(frozen=True)
class MapMark:
    """What a map's values mean, where a picture's score is not its map's maximum."""

    low: float = field(doc="Mean maximum of good pictures' maps")
    mark: float = field(doc="Mean maximum and 3 standard deviations")


@dataclass(frozen=True)
class AnomalyHead:
    """The head of an anomaly model's file."""

    kind: Literal["jetlift-anomaly-model"] = field(doc="Says what the file is")
    schema_version: int = field(doc="Version of this schema")
    stamp: artefact.Stamp = field(doc="Whose numbers these are")
    arrays_sha256: dict[str, str] = field(doc="SHA-256 of dtype, shape and bytes of each array")
    pictures: int = field(doc="Number of good pictures")
    skipped: int = field(doc="Pictures that could not be read")
    seed: int = field(doc="Seed of the choice of dimensions, or of what is remembered")
    shrinkage_mean: float = field(
        doc="Mean weight of the identity in the covariances, 0 to 1; 0 where there are none"
    )
    threshold: Threshold = field(doc="Where anomalous begins")
    notes: tuple[str, ...] = field(doc="What weakens the model")
    method: Method = field(default="padim", doc="How good pictures are described")
    map_mark: MapMark | None = field(
        default=None, doc="What map values mean; null where the threshold says it"
    )


@dataclass(frozen=True, eq=False)
class AnomalyModel:
    """A fitted model in memory.

    Attributes:
        head: What it rests on.
        judge: Says of each patch how odd it is.
    """

    head: AnomalyHead
    judge: Padim | Memory

    def save(self, path: Path | str) -> None:
        """Write the model as one file, atomically.

        Raises:
            StorageError: The disk is full or not writable.
        """
        artefact.save(Path(path), self.head, _arrays_of(self.judge))

    @classmethod
    def load(cls, path: Path | str) -> AnomalyModel:
        """Read a model back.

        Raises:
            InputError: There is no such file.
            ArtefactError: It is something else, altered, or of another version.
        """
        head, arrays = artefact.load(Path(path), AnomalyHead, version=SCHEMA_VERSION, what=_WHAT)
        forms = {name: (array.dtype.str, array.ndim) for name, array in arrays.items()}
        if forms != _FORMS[head.method] or not _fit_together(head.method, arrays):
            raise ArtefactError(f"{path} is not {_WHAT}: its arrays do not fit together")
        return cls(head, _judge_of(head.method, arrays))


def method_of(name: str) -> Method:
    """The method of that name.

    Raises:
        UnknownNameError: There is none.
    """
    methods: tuple[Method, ...] = get_args(Method)
    for method in methods:
        if method == name:
            return method
    raise UnknownNameError(
        f"There is no method {name!r} to look for anomalies",
        expected=f"One of {', '.join(methods)}",
    )


_FORMS = {
    "padim": {
        "dims": ("<i8", 1), "mean": ("<f4", 2), "whitening": ("<f4", 3), "shrinkage": ("<f8", 1),
    },
    "patchcore": {"bank": ("<f4", 2)},
}  # fmt: skip


def _arrays_of(judge: Padim | Memory) -> Arrays:
    if isinstance(judge, Memory):
        return {"bank": judge.bank}
    return {
        "dims": judge.dims,
        "mean": judge.gaussians.mean,
        "whitening": judge.gaussians.whitening,
        "shrinkage": judge.gaussians.shrinkage,
    }


def _judge_of(method: Method, arrays: Arrays) -> Padim | Memory:
    if method == "patchcore":
        return Memory(arrays["bank"])
    gaussians = Gaussians(arrays["mean"], arrays["whitening"], arrays["shrinkage"])
    return Padim(arrays["dims"], gaussians)


def _fit_together(method: Method, arrays: Arrays) -> bool:
    if method == "patchcore":
        return 0 not in arrays["bank"].shape
    patches, dims = arrays["mean"].shape
    return (
        arrays["dims"].shape == (dims,)
        and arrays["whitening"].shape == (patches, dims, dims)
        and arrays["shrinkage"].shape == (patches,)
    )
