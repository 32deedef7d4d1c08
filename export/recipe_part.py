"""One part of a recipe on its way into a bundle: its module becomes a graph and its own judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jetlift.export import graph
from jetlift.export.judging import Source
from jetlift.runtime.manifest import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx_ir as ir
    import torch

    from jetlift.export.recipes.base import PartRecipe
    from jetlift.runtime.manifest import TensorSpec


def source_of(
    name: str,
    item: PartRecipe,
    module: torch.nn.Module,
    asked: str | None,
    tell: Callable[[str, float], None],
) -> Source:
    """One part of a recipe as a graph, with what it is held to.

    Args:
        name: The part's name.
        item: What the recipe says of it.
        module: In eval mode, float32.
        asked: The user's fidelity budget.
        tell: Called with the stage's name and its share done.
    """
    tell(f"{name}: torch to ONNX", 0.0)
    model = graph.from_torch(module, item.inputs, item.output_names)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    part = part_of(model, item.inputs, parameters, item)
    answer = _torch_answer(module, item.inputs)
    return Source(
        name, model, part, item.budget, answer, item.metric, item.items, asked,
        item.exact_inputs,
    )  # fmt: skip


def part_of(
    model: ir.Model, inputs: Sequence[TensorSpec], parameters: int, recipe: PartRecipe | None
) -> Part:
    """What the manifest says of a part before it has variants; one's own graph has no recipe."""
    return Part(
        inputs=tuple(inputs),
        outputs=graph.output_specs(model),
        parameters=parameters,
        preprocess=recipe.preprocess if recipe else None,
        variants={},
        patch_grid_hw=recipe.patch_grid_hw if recipe else None,
        classification=recipe.classification if recipe else None,
        detection=recipe.detection if recipe else None,
        runs_per=recipe.runs_per if recipe else "input",
    )


def _torch_answer(
    module: Any,  # noqa: ANN401 - torch is imported inside
    inputs: Sequence[TensorSpec],
) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    def answer(feeds: Mapping[str, Any]) -> Sequence[Any]:
        import torch

        with torch.no_grad():
            outputs = module(*(torch.from_numpy(feeds[spec.name]) for spec in inputs))
        return [item.numpy() for item in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return answer
