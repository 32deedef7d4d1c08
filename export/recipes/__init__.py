"""The zoo: every model that jetlift knows how to export, one file each."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from jetlift.export.recipes import dinov2, minilm
from jetlift.runtime.errors import UnknownNameError

if TYPE_CHECKING:
    from jetlift.export.recipes.base import Recipe

RECIPES: dict[str, Recipe] = {item.name: item for item in (dinov2.RECIPE, minilm.RECIPE)}


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
