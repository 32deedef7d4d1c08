"""The zoo: every model that jetlift knows how to export, one file each."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from jetlift.export import samples
from jetlift.export.recipes import dinov2, minilm, whisper
from jetlift.runtime.errors import UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.export.recipes.base import Recipe
    from jetlift.runtime.bundle import Bundle

RECIPES: dict[str, Recipe] = {
    item.name: item for item in (dinov2.RECIPE, minilm.RECIPE, whisper.RECIPE)
}


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UnknownNameError: There is none; the message names the nearest.
    """
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name, RECIPES, n=1)
    raise UnknownNameError(
        f"Model {name!r} is not in the zoo",
        expected=f"One of {', '.join(RECIPES)}",
        do=f"Did you mean {near[0]}?" if near else "See 'jetlift models', or use --onnx FILE",
    )


def samples_for(bundle: Bundle, part: str, folder: Path) -> samples.SampleSplit:
    """Read and split samples for a part of a finished bundle, as its export would.

    Raises:
        InputError: The folder is missing or has too few samples.
    """
    found = RECIPES.get(bundle.manifest.model)
    read = found.parts[part].items if found is not None and part in found.parts else None
    files = {
        name: bundle.path(item.variants["fp32"].file)
        for name, item in bundle.manifest.parts.items()
    }
    context = samples.ItemContext(folder, bundle.part(part)[1], bundle.folder, files)
    return samples.prepare(context, read)
