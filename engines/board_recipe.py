"""The recipe of a board's engines: what a workstation checked, and the command that finishes it.

`engines/<target>/recipe.json` lies beside the engines that the board will build. It is small and
meant to be read by people and programs alike. The published schema is
docs/schemas/board_recipe.schema.json, generated from these classes.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.runtime import atomic, jsonform
from jetlift.runtime.bundle import ENGINES_FOLDER
from jetlift.runtime.errors import PassportError
from jetlift.runtime.jsonform import field
from jetlift.runtime.manifest import MODEL, NAME, SHA256

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle

    Option = str | int | float | bool | None

SCHEMA_VERSION = 1
FILE_NAME = "recipe.json"
_MAX_BYTES = 2**20


@dataclass(frozen=True)
class Sibling:
    """What became of a build for the nearest GPU that TensorRT-RTX compiles for without one."""

    outcome: Literal["built", "refused", "not tried"] = field(
        doc="Whether the sibling's compiler took the graph"
    )
    note: str = field(doc="What it said, or why it was not asked")
    compute_capability: str = field(doc="The sibling's, as in 8.6; the board's is another")
    receipt: str = field(doc="What the build's log shows of its precision; empty without a build")


@dataclass(frozen=True)
class PlannedEngine:
    """One engine that the board is to build, or cannot."""

    part: str = field(doc="Part of the model")
    variant: str = field(doc="Variant of the part, as in fp32, fp16, int8")
    onnx_sha256: str = field(doc="Hash of the graph, as the engine's passport will have it")
    verdict: Literal["to build", "refused"] = field(doc="Whether the board can compute it")
    reason: str = field(doc="Why it is refused, or what the board's ability rests on")
    source: str = field(doc="Where that is said")
    sibling: Sibling = field(doc="What the sibling build showed; it proves nothing of the board")


@dataclass(frozen=True)
class Expected:
    """The software that the board should have."""

    jetpack: str = field(doc="JetPack release that the checks were made for")
    l4t: str | None = field(doc="Its Jetson Linux release; null where it is not known")
    tensorrt: str = field(doc="TensorRT it brings")
    cuda: str = field(doc="CUDA it brings")
    python: str = field(doc="Python it brings")


@dataclass(frozen=True)
class BoardRecipe:
    """The whole of `recipe.json`."""

    schema_version: int = field(doc="Version of this schema")
    what: str = field(doc="What this file is, in one sentence")
    command: str = field(doc="The one command that builds the engines on the board")
    target: str = field(doc="The board as a target, as in orin-nano-8gb", pattern=NAME)
    product: str = field(doc="NVIDIA's name of the board")
    compute_capability: str = field(doc="Of its GPU, as in 8.7")
    model: str = field(doc="Model of the bundle", pattern=MODEL)
    bundle_sha256: str = field(doc="SHA-256 of the bundle's bundle.json", pattern=SHA256)
    expected: Expected = field(doc="The software the board should have")
    engines: tuple[PlannedEngine, ...] = field(doc="Every variant that was asked for")
    options: dict[str, str | int | float | bool | None] = field(
        doc="Options of the build, as the command line has them; empty for the defaults"
    )
    jetlift: str = field(doc="Version of jetlift that wrote it")


def board_command(
    bundle: Bundle,
    target: str,
    planned: Sequence[PlannedEngine],
    options: Mapping[str, Option],
    *,
    asked: bool,
) -> str:
    """The command for the board, to be run beside the bundle's folder.

    Args:
        bundle: The bundle.
        target: Name of the board.
        planned: Variants, refused ones among them.
        options: Options under their long names; True for a flag, None and False for none.
        asked: Whether variants were asked for by name. They are named too where some are refused.
    """
    words = ["jetlift", "build", bundle.folder.name, "--target", target]
    able = dict.fromkeys(item.variant for item in planned if item.verdict == "to build")
    if asked or len(able) < len({item.variant for item in planned}):
        words += ["--precision", ",".join(able)]
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def recipe_path(bundle: Bundle, target: str) -> Path:
    """Where the recipe of a bundle for a target lies, or would lie."""
    return bundle.folder / ENGINES_FOLDER / target / FILE_NAME


def write_recipe(recipe: BoardRecipe, bundle: Bundle) -> Path:
    """Write a recipe beside the engines of its target, in place of one that is there.

    Raises:
        StorageError: The disk is full or not writable.
    """
    path = recipe_path(bundle, recipe.target)
    atomic.write_bytes(path, jsonform.dumps(recipe).encode())
    return path


def read_recipe(bundle: Bundle, target: str) -> BoardRecipe | None:
    """Read the recipe of a bundle for a target.

    Returns:
        None where there is none.

    Raises:
        PassportError: It is there and not of the published form, or was made for another bundle.
    """
    path = recipe_path(bundle, target)
    if not path.is_file():
        return None
    again = f"Make it again with: jetlift build {bundle.folder} --target {target}"
    if path.stat().st_size > _MAX_BYTES:
        raise PassportError(f"{path} is larger than any recipe", do=again)
    with jsonform.refusing(path, PassportError, do=again):
        recipe = jsonform.loads(BoardRecipe, path.read_bytes())
    if recipe.bundle_sha256 != bundle.sha256:
        raise PassportError(
            f"{path} was made for another bundle than the one it lies in",
            expected=f"The bundle whose bundle.json has SHA-256 {recipe.bundle_sha256}",
            do=again,
        )
    return recipe
