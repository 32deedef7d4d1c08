"""What a graph does on real samples with some of its nodes in 16 bits: losses and overflows.

Samples run one at a time. Of the values inside the graph, what is kept is a few numbers each; they
are fetched in groups of FETCH_BYTES, and a large graph is run once per group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.precision.half import MASK_FROM
from jetlift.export.precision.switched import Switched
from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    from jetlift.export.precision.half import Half

    Feeds = Mapping[str, npt.NDArray[Any]]
    Floats = npt.NDArray[np.float32]
    Outputs = Mapping[str, Sequence[npt.NDArray[Any]]]
    Loss = Callable[[Outputs, Outputs], float]

FETCH_BYTES = 256 * 2**20
# Values that come within this factor of the type's limit are watched in every trial.
_NEAR = 4.0


@dataclass(frozen=True)
class Seen:
    """What a value did in FP32, over all samples.

    Attributes:
        peak: Largest finite magnitude.
        lost: Largest share of its summed magnitude, on one sample, that rounds to zero.
        masks: Whether it holds masks: infinities, or numbers of 1e30 and more.
    """

    peak: float
    lost: float
    masks: bool


@dataclass(frozen=True)
class Trial:
    """One choice of wide nodes on all samples.

    Attributes:
        loss: How far the outputs are from FP32's.
        overflows: Values that were infinite or no number though FP32 has them finite.
    """

    loss: float
    overflows: frozenset[str]


def relative_error(reference: Outputs, got: Outputs) -> float:
    """Largest relative error of an output on a sample: |got - wanted| / |wanted|, L2 norms."""
    return max(
        (
            _relative(wanted, array)
            for name, arrays in reference.items()
            for wanted, array in zip(arrays, got[name], strict=True)
        ),
        default=0.0,
    )


class Trials:
    """Runs trials of one graph on one set of samples.

    Attributes:
        graph: The graph with its switches.
        seen: What each value did in FP32.
        runs: Runs of the graph so far, one per sample and group of values.
    """

    def __init__(self, model: ir.Model, half: Half, samples: Sequence[Feeds], loss: Loss) -> None:
        if not samples:
            raise InputError("There are no samples", expected="At least one real sample")
        self.graph, self.samples, self.loss = Switched(model, half), samples, loss
        self.half, self.runs = half, 0
        self._bytes: dict[str, int] = {}
        self._reference = self._outputs([self._run(f, self.graph.flags(self.graph.nodes))[0]
                                         for f in samples])  # fmt: skip
        self._check_reference()
        self.seen = self._observe()
        limit = half.to_infinity / _NEAR
        self.watched = {name for name, seen in self.seen.items() if seen.peak >= limit}

    def trial(self, wide: Collection[str], *, everything: bool = False) -> Trial:
        """Run all samples with a choice of wide nodes.

        Args:
            wide: Names of the wide nodes.
            everything: Look for overflows in every value, not in the watched ones alone; those
                found are watched from then on.
        """
        flags = self.graph.flags(wide)
        narrow = self._rounded(flags)
        bad: set[str] = set()
        names = sorted(self.seen if everything else self.watched & set(self.seen))
        outputs = []
        for feeds in self.samples:
            answer: list[Floats] = []
            for result, arrays in self._fetch(feeds, flags, names):
                answer = result  # the same for each group
                bad |= {name for name, a in arrays.items() if self._is_bad(name, a, narrow)}
            outputs.append(answer)
        self.watched |= bad
        got = self._outputs(outputs)
        finite = all(np.isfinite(a).all() for arrays in got.values() for a in arrays)
        loss = self.loss(self._reference, got) if finite else float("inf")
        return Trial(float("inf") if np.isnan(loss) else loss, frozenset(bad))

    def effect(self, index: int, rounded: Collection[int]) -> float:
        """Relative error of the outputs on one sample where only some switches round.

        Args:
            index: The sample.
            rounded: Positions of the switches that round.
        """
        flags = np.ones(len(self.graph.edges), np.bool_)
        flags[list(rounded)] = False
        result = self._run(self.samples[index], flags)[0]
        pairs = zip(self._reference.values(), result, strict=True)
        return max(_relative(arrays[index], array) for arrays, array in pairs)

    def worst_sample(self, wide: Collection[str]) -> int:
        """The sample on which the outputs are farthest from FP32's."""
        flags = self.graph.flags(wide)
        errors = []
        for index, feeds in enumerate(self.samples):
            result = self._run(feeds, flags)[0]
            pairs = zip(self._reference.values(), result, strict=True)
            errors.append(max(_relative(arrays[index], array) for arrays, array in pairs))
        return int(np.argmax(errors))

    def _outputs(self, results: Sequence[Sequence[Floats]]) -> dict[str, list[Floats]]:
        return {
            name: [result[i] for result in results] for i, name in enumerate(self.graph.outputs)
        }

    def _check_reference(self) -> None:
        for name, arrays in self._reference.items():
            for index, array in enumerate(arrays):
                if not np.isfinite(array).all():
                    raise InputError(
                        f"Output {name} holds NaN or infinity in FP32 on sample {index + 1}",
                        expected="Finite outputs to compare with",
                        do="Look at that sample and at the weights",
                    )

    def _observe(self) -> dict[str, Seen]:
        flags, seen = self.graph.flags(self.graph.nodes), dict[str, Seen]()
        for feeds in self.samples:
            for _, arrays in self._fetch(feeds, flags, list(self.graph.values)):
                for name, array in arrays.items():
                    seen[name] = self._joined(seen.get(name), array)
        return seen

    def _joined(self, before: Seen | None, array: Floats) -> Seen:
        finite = np.isfinite(array)
        magnitudes = np.abs(np.where(finite, array, 0), dtype=np.float64)
        peak = float(magnitudes.max(initial=0.0))
        gone = magnitudes[self.half.rounded(array) == 0].sum()
        lost = float(gone / magnitudes.sum()) if gone else 0.0
        masks = peak >= MASK_FROM or not bool(finite.all())
        if before is None:
            return Seen(peak, lost, masks)
        return Seen(max(peak, before.peak), max(lost, before.lost), masks or before.masks)

    def _is_bad(self, name: str, array: Floats, narrow: Collection[str]) -> bool:
        """Whether a value is infinite or no number where it is read; a mask may be infinite."""
        arrived = self.half.rounded(array) if name in narrow else array
        if self.seen[name].masks:
            return bool(np.isnan(arrived).any())
        return not bool(np.isfinite(arrived).all())

    def _rounded(self, flags: npt.NDArray[np.bool_]) -> set[str]:
        """Names of the values that some reader sees rounded."""
        return {
            edge.value
            for edge, raw in zip(self.graph.edges, flags.tolist(), strict=True)
            if not raw
        }

    def _fetch(
        self, feeds: Feeds, flags: npt.NDArray[np.bool_], names: Sequence[str]
    ) -> Iterator[tuple[list[Floats], dict[str, Floats]]]:
        """Outputs and named values, in groups that fit FETCH_BYTES; at least one group."""
        todo, room = list(names), 16
        while True:
            group: list[str] = []
            planned = 0
            while todo and (not group or planned + self._bytes.get(todo[0], 0) <= FETCH_BYTES):
                if todo[0] not in self._bytes and len(group) >= room:
                    break  # sizes are not known yet: a few at a time
                planned += self._bytes.get(todo[0], 0)
                group.append(todo.pop(0))
            made = [name for name in group if name not in feeds]
            outputs, arrays = self._run(feeds, flags, made)
            arrays |= {name: feeds[name] for name in group if name in feeds}
            self._bytes |= {name: array.nbytes for name, array in arrays.items()}
            room = _room(list(arrays.values()), room)
            yield outputs, arrays
            if not todo:
                return

    def _run(
        self, feeds: Feeds, flags: npt.NDArray[np.bool_], fetch: Sequence[str] = ()
    ) -> tuple[list[Floats], dict[str, Floats]]:
        self.runs += 1
        return self.graph.run(feeds, flags, fetch)


def _room(arrays: Sequence[Floats], room: int) -> int:
    """How many values of unknown size to fetch next, from the size of the last."""
    mean = sum(array.nbytes for array in arrays) / max(1, len(arrays))
    return max(1, min(room * 4, int(FETCH_BYTES / max(mean, 1.0) / 2)))


def _relative(wanted: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    if wanted.size == 0:
        return 0.0
    a, b = np.asarray(wanted, np.float64), np.asarray(got, np.float64)
    norm = float(np.linalg.norm(a))
    error = float(np.linalg.norm(a - b)) / (norm or 1.0)
    return error if np.isfinite(error) else float("inf")
