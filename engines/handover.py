"""A board as a target on a machine that is not that board: check, try the sibling, hand over.

Rules:
    V1  No engine for a board is made anywhere but on it. What is built here is for a sibling, is
        thrown away, and proves that NVIDIA's compiler takes the graph, nothing of the board.
    V2  A variant that the board cannot compute is refused here, before anybody copies anything.
    V3  What a sibling refuses is told and still handed over: the board's own builder decides.
    V4  Where nothing is left to build there is no recipe.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.engines.board_recipe import (
    SCHEMA_VERSION,
    BoardRecipe,
    Expected,
    PlannedEngine,
    Sibling,
    board_command,
    write_recipe,
)
from jetlift.engines.graph_types import demanding_types
from jetlift.jetson.abilities import Ability, abilities
from jetlift.jetson.facts import default_release, release, releases_for
from jetlift.runtime.errors import (
    EngineLibraryError,
    MissingPackageError,
    UsageError,
)
from jetlift.runtime.passport import onnx_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jetlift.engines.receipt import Built
    from jetlift.engines.targets import Target
    from jetlift.jetson.facts import Device, Release
    from jetlift.runtime.bundle import Bundle

    # (part, variant, where to write the engine, the sibling's compute capability)
    SiblingBuilder = Callable[[str, str, Path, str], Built]

# The nearest compute capability that TensorRT-RTX 1.7 compiles for without a GPU.
SIBLINGS = {"8.7": "8.6", "11.0": "12.0"}
_WHAT = (
    "Checked on another machine for this board. No engine was built for it: only the board itself "
    "can do that, with the command below"
)


@dataclass(frozen=True)
class Handover:
    """What a workstation did for a board.

    Attributes:
        recipe: What was written.
        path: Where it lies.
    """

    recipe: BoardRecipe
    path: Path

    @property
    def refused(self) -> tuple[PlannedEngine, ...]:
        """Variants that the board cannot compute."""
        return tuple(item for item in self.recipe.engines if item.verdict == "refused")

    @property
    def doubtful(self) -> tuple[PlannedEngine, ...]:
        """Variants that the board is to build and the sibling's compiler refused (rule V3)."""
        return tuple(
            item
            for item in self.recipe.engines
            if item.verdict == "to build" and item.sibling.outcome == "refused"
        )

    def sentences(self) -> list[str]:
        """What to tell people, the one command last."""
        recipe = self.recipe
        told = [f"{_name(item)} is refused: {item.reason}." for item in self.refused]
        told += [f"{_name(item)}: {item.sibling.note}." for item in self.doubtful]
        built = [item for item in recipe.engines if item.sibling.outcome == "built"]
        if built:
            count = f"{len(built)} of {len(recipe.engines)} graphs"
            told.append(
                f"{count} compile for the sibling SM {built[0].sibling.compute_capability}, not "
                f"for {recipe.target} (SM {recipe.compute_capability}): no engine was kept."
            )
        untried = [item for item in recipe.engines if item.sibling.outcome == "not tried"]
        if untried and not built and not self.doubtful:
            told.append(f"No sibling build was made: {untried[0].sibling.note}.")
        told.append(
            f"Copy {self.path.parents[2]} to the {recipe.product} (JetPack "
            f"{recipe.expected.jetpack}, TensorRT {recipe.expected.tensorrt}) and run beside it "
            f"there: {recipe.command}"
        )
        return told


def hand_over(
    bundle: Bundle,
    target: Target,
    precisions: Sequence[str] | None,
    *,
    jetpack: str | None = None,
    sibling_builder: SiblingBuilder | None,
    tell: Callable[[str], None] = lambda _doing: None,
    options: Mapping[str, str | float | bool | None] | None = None,
) -> Handover:
    """Do for a board what can be done on another machine, and write its recipe (rules V1 to V4).

    Call it where `target.device` is set and `where.is_here(target, host)` is false.

    Args:
        bundle: A verified bundle.
        target: The board.
        precisions: Variants to hand over of every part that has them; None for all there are.
        jetpack: JetPack release on the board, as in `6.2`; None for the newest that is fully
            known.
        sibling_builder: Compiles a variant for the sibling: called with the part, the variant,
            where to write the engine and the sibling's compute capability, as in `8.6`. It raises
            EngineLibraryError where the compiler refuses the graph and MissingPackageError where
            it is not installed. None where no sibling build is wanted.
        tell: Called with what is being done.
        options: Options of the build, under their names on the command line without the dashes, as
            in `{"optimization-level": 5}`; they enter the recipe and its command.

    Raises:
        UsageError: The target is no board, the release does not run on it, or it can compute none
            of the variants; no recipe is written then.
        UnknownNameError: No such release, or no part has such a variant.
        StorageError: The disk is full or not writable.
    """
    device = _device(target)
    chosen = _release(device, jetpack)
    planned = []
    for part, variant in bundle.variants(precisions):
        tell(f"{part} {variant}: check it for {target.name}")
        ability = _ability(bundle, part, variant, device, chosen)
        sibling = _no_sibling(device, "the board cannot compute it")
        if ability.able:
            sibling = _try_sibling(part, variant, device, sibling_builder, tell)
        planned.append(_planned(bundle, part, variant, ability, sibling))
    if all(item.verdict == "refused" for item in planned):  # V4
        raise UsageError(
            f"{target.name} can compute none of it: "
            + "; ".join(f"{_name(item)}: {item.reason}" for item in planned),
            do="Export the bundle with variants it can: --precision fp32,fp16,int8",
        )
    recipe = _recipe(bundle, target, device, chosen, tuple(planned), precisions, options or {})
    return Handover(recipe, write_recipe(recipe, bundle))


def _device(target: Target) -> Device:
    if target.device is None:
        raise UsageError(
            f"Target {target.name} is no board", expected="A Jetson, as in orin-nano-8gb"
        )
    return target.device


def _release(device: Device, jetpack: str | None) -> Release:
    if jetpack is None:
        return default_release(device)
    chosen = release(jetpack)
    ability = abilities(device, chosen)["tensorrt"]
    if not ability.able:
        raise UsageError(
            f"Nothing can be built for {device.name} with JetPack {jetpack}: {ability.reason}",
            expected=f"One of {', '.join(item.version for item in releases_for(device))}",
        )
    return chosen


def _ability(bundle: Bundle, part: str, variant: str, device: Device, chosen: Release) -> Ability:
    """The first thing a variant asks and the board cannot do (rule V2); else its own precision."""
    able = abilities(device, chosen)
    described = bundle.variant(part, variant)
    found: dict[str, str] = {}
    with contextlib.suppress(MissingPackageError):  # the manifest alone is judged then
        found = demanding_types(bundle.path(described.file))
    for word in dict.fromkeys([described.precision, described.rest, *found]):
        ability = able[word]
        if not ability.able:
            where = f" (the graph has it at {found[word]})" if word in found else ""
            return Ability(able=False, reason=ability.reason + where, source=ability.source)
    narrowest = able[described.precision]
    said = f"{described.precision} {narrowest.reason}"
    return Ability(able=True, reason=said, source=narrowest.source)


def _try_sibling(
    part: str,
    variant: str,
    device: Device,
    builder: SiblingBuilder | None,
    tell: Callable[[str], None],
) -> Sibling:
    """Compile for the sibling into a folder that goes away (rule V1)."""
    capability = SIBLINGS.get(device.compute_capability)
    if builder is None or capability is None:
        return _no_sibling(device, "it was not asked for")
    tell(f"{part} {variant}: compile it for the sibling, SM {capability}")
    try:
        with tempfile.TemporaryDirectory(prefix="jetlift-sibling-") as folder:
            built = builder(part, variant, Path(folder) / f"{part}.{variant}.engine", capability)
    except MissingPackageError as error:
        return _no_sibling(device, f"{error.package} is not installed")
    except EngineLibraryError as error:
        note = f"the compiler for SM {capability} refused it, so the board may: {error.got}"
        return Sibling("refused", note, capability, "")
    return Sibling(
        "built", f"TensorRT-RTX took it for SM {capability}", capability, built.receipt.outcome
    )


def _no_sibling(device: Device, why: str) -> Sibling:
    return Sibling("not tried", why, SIBLINGS.get(device.compute_capability, "none"), "")


def _planned(
    bundle: Bundle, part: str, variant: str, ability: Ability, sibling: Sibling
) -> PlannedEngine:
    return PlannedEngine(
        part=part,
        variant=variant,
        onnx_sha256=onnx_sha256(bundle, part, variant),
        verdict="to build" if ability.able else "refused",
        reason=ability.reason,
        source=ability.source,
        sibling=sibling,
    )


def _recipe(
    bundle: Bundle,
    target: Target,
    device: Device,
    chosen: Release,
    planned: tuple[PlannedEngine, ...],
    precisions: Sequence[str] | None,
    options: Mapping[str, str | float | bool | None],
) -> BoardRecipe:
    return BoardRecipe(
        schema_version=SCHEMA_VERSION,
        what=_WHAT,
        command=board_command(bundle, target.name, planned, options, asked=precisions is not None),
        target=target.name,
        product=device.product,
        compute_capability=device.compute_capability,
        model=bundle.manifest.model,
        bundle_sha256=bundle.sha256,
        expected=Expected(chosen.version, chosen.l4t, chosen.tensorrt, chosen.cuda, chosen.python),
        engines=planned,
        options=dict(options),
        jetlift=importlib.metadata.version("jetlift"),
    )


def _name(item: PlannedEngine) -> str:
    return f"{item.part} {item.variant}"
