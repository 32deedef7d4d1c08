"""From a float graph and what its activations do to INT8 graphs: one treatment per block.

A block is what reads one activation: the query, key and value projections of a layer are one. It
is narrowed or widened as a whole, since its nodes share a Q/DQ pair and fuse into one GEMM.

Rules:
    P1  A treatment changes the float graph only in ways that keep its answer (migrate.py), so a
        block that stays wide computes what it did.
    P2  Bias correction belongs to a narrow block: the mean of what quantisation changed in its
        result on the calibration rows, W E[x] - Wq E[Q(x)], is added back (Nagel et al.,
        Data-Free Quantization, arXiv 1906.04721, section 4.2, with means that were measured).
    P3  A clip is guarded by cross-validation: with the affine and the range of all calibration
        samples but a fold, how much wider must the range be for that fold? The folds are runs of
        neighbours, which are more alike than strangers. Ranges that generalise cost nothing, and
        those with a heavy tail get the room they need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.precision.calibrate import Activation
from jetlift.export.precision.fp16 import drop_unused_initializers
from jetlift.export.precision.migrate import affine_of, migrate
from jetlift.export.precision.qdq import write_qdq
from jetlift.export.precision.scales import best_calibrator, clip_max, rounded, rounded_weight
from jetlift.export.precision.sites import add_to_output, by_activation, find_sites

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    from jetlift.export.precision.sites import Floats, Site


_FOLDS = 4


@dataclass(frozen=True)
class Treatment:
    """How a block is made ready for INT8.

    Attributes:
        alpha: How far scales are migrated into weights; None migrates nothing.
        shift: Whether channels are centred.
        guard: Widen the clip by what cross-validation says that unseen samples need, at most by
            this factor (rule P3); 1 widens nothing.
        calibrate: Whether the calibrator is chosen by evidence; else it is `max`.
        correct: Whether biases are corrected.
    """

    alpha: float | None
    shift: bool = True
    guard: float = 2.0
    calibrate: bool = False
    correct: bool = True

    def __str__(self) -> str:
        words = ["no migration" if self.alpha is None else f"alpha {self.alpha:g}"]
        words += ["centred"] if self.shift else []
        words += [f"guarded to {self.guard:g}"] if self.guard > 1 else []
        words += ["calibrator by evidence" if self.calibrate else "max"]
        words += ["biases corrected"] if self.correct else []
        return ", ".join(words)


@dataclass(frozen=True)
class Prepared:
    """A float graph made ready, from which any assignment of blocks is typed.

    Attributes:
        model: The migrated float graph.
        blocks: Names of the nodes of each block, by the block's name.
        clips: Clipping magnitude per tensor that sites read.
        calibrators: Which calibrator gave the clip of each block.
        corrections: What is added to the output channels of each node once it is narrow.
    """

    model: ir.Model
    blocks: dict[str, tuple[str, ...]]
    clips: dict[str, float]
    calibrators: dict[str, str]
    corrections: dict[str, npt.NDArray[Any]]

    def typed(self, wide: Collection[str] = ()) -> ir.Model:
        """The graph with every block in INT8 but those named (rule P2)."""
        copy = self.model.clone(deep_copy=False)
        kept = {node for block in wide for node in self.blocks[block]}
        sites = [site for site in find_sites(copy.graph)[0] if site.name not in kept]
        for site in sites:
            if site.name in self.corrections:
                add_to_output(copy.graph, site, self.corrections[site.name], "corrected")
        write_qdq(copy.graph, sites, self.clips)
        drop_unused_initializers(copy.graph)
        return copy


def prepare(
    model: ir.Model,
    seen: Mapping[str, Activation],
    treatments: Mapping[str, Treatment],
) -> Prepared:
    """Treat each block (rule P1).

    Args:
        model: A float32 graph; it is not changed.
        seen: What calibration showed of each block's tensor.
        treatments: How to treat each block, by the tensor its sites read.
    """
    copy = model.clone(deep_copy=False)
    groups = by_activation(find_sites(copy.graph)[0])
    affines = {
        name: affine_of(groups[name], seen[name], alpha=treatment.alpha, shift=treatment.shift)
        for name, treatment in treatments.items()
        if treatment.alpha is not None
    }
    renamed = migrate(copy.graph, groups, affines)
    drop_unused_initializers(copy.graph)
    treated = by_activation(find_sites(copy.graph)[0])
    clips: dict[str, float] = {}
    calibrators: dict[str, str] = {}
    corrections: dict[str, npt.NDArray[Any]] = {}
    for name, treatment in treatments.items():
        read = renamed.get(name, name)
        after = affines[name].of(seen[name]) if name in affines else seen[name]
        sites = treated[read]
        if treatment.calibrate:
            calibrators[name], clip = best_calibrator(after, sites)
        else:
            calibrators[name], clip = "max", clip_max(after)
        clips[read] = clip * _guard(groups[name], seen[name], treatment)
        if treatment.correct:
            corrections |= {s.name: _correction(s, after.rows, clips[read]) for s in sites}
    blocks = {name: tuple(site.name for site in group) for name, group in groups.items()}
    return Prepared(copy, blocks, clips, calibrators, corrections)


def _guard(group: Sequence[Site], seen: Activation, treatment: Treatment) -> float:
    """How much wider a clip must be for samples that did not make it (rule P3)."""
    samples, worst = len(seen.lows), 1.0
    if treatment.guard <= 1:
        return worst
    for fold in np.array_split(np.arange(samples), min(_FOLDS, samples)):
        others = np.setdiff1d(np.arange(samples), fold)
        if not len(others):
            return worst
        known = Activation(seen.lows[others], seen.highs[others], seen.rows)
        unseen = Activation(seen.lows[fold], seen.highs[fold], seen.rows)
        if treatment.alpha is not None:
            affine = affine_of(group, known, alpha=treatment.alpha, shift=treatment.shift)
            known, unseen = affine.of(known), affine.of(unseen)
        reached = clip_max(known)
        worst = max(worst, clip_max(unseen) / reached if reached > 0 else 1.0)
    return min(worst, treatment.guard)


def _correction(site: Site, rows: Floats, clip: float) -> npt.NDArray[Any]:
    """What quantisation takes from the mean of a node's result, float [out] (rule P2)."""
    before, after = rows.mean(axis=0), rounded(rows, clip).mean(axis=0)
    weight = rounded_weight(site.array(), site.axis)
    lost: npt.NDArray[Any] = site.answer(before[None, :]) - site.answer(after[None, :], weight)
    return np.asarray(lost[0])
