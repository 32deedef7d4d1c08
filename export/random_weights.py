"""Random weights: the real architecture, seeded, where trained weights cannot be had.

Structure, shapes, parameters, cost and engine builds are those of the trained model. What the model
says is noise, so nothing about its answers or its fidelity can be measured.

Rules:
    R1  They are asked for by name, `--weights random` or `random:SEED`, never fallen back to.
    R2  Whatever is made of them says so: the manifest has `random`, and no figure of fidelity.
    R3  No parameter is constant. Biases of zero and norms of one, as initialisers leave them, would
        be folded away by simplifiers, and the graph would not be the trained model's.
    R4  The same seed gives the same weights, with the same version of torch and transformers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import Weights

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

WORD = "random"
STRUCTURE = "structure"
_SPREAD = 0.02
_LARGEST_SEED = 2**32 - 1
Module = TypeVar("Module", bound="torch.nn.Module")


def seed_of(source: str | None) -> int | None:
    """The seed that a weights argument asks for; None where it asks for other weights (rule R1).

    Raises:
        UsageError: It begins with the word, but no seed follows.
    """
    if source is None or source.partition(":")[0] != WORD:
        return None
    match = re.fullmatch(r"random(?::(\d{1,10}))?", source)
    seed = int(match[1] or 0) if match else None
    if seed is None or seed > _LARGEST_SEED:
        raise UsageError(
            f"--weights got {source!r}",
            expected=f"'random', or 'random:SEED' with a whole number up to {_LARGEST_SEED}",
        )
    return seed


def describe(seed: int, title: str) -> Weights:
    """The manifest's word on random weights (rule R2)."""
    return Weights(
        source=f"{WORD}:{seed}",
        licence="none: drawn by jetlift",
        sha256=None,
        note=f"Random weights in the architecture of {title}: shapes, cost and engines are real, "
        "its answers mean nothing",
        random=True,
    )


def drawn(
    architecture: Any,  # noqa: ANN401 - transformers ships no types
    config: Any,  # noqa: ANN401 - as before
    seed: int,
) -> Any:  # noqa: ANN401 - as before
    """One of transformers' models with random weights, in eval mode, float32 (rules R3 and R4).

    Drawn as the architecture initialises itself, then constant parameters a little around their
    value. The caller's own stream of random numbers is left as it was.
    """
    import torch

    from jetlift.export.weights import quiet_transformers

    with quiet_transformers():
        return initialised(
            lambda: architecture._from_config(  # noqa: SLF001 - their door for attention kinds
                config, attn_implementation="eager", dtype=torch.float32
            ),
            seed,
        )


def initialised(make: Callable[[], Module], seed: int) -> Module:
    """A module as it initialises itself, from a seed, in eval mode (rules R3 and R4).

    Args:
        make: Makes it.
        seed: Of its weights. The caller's own stream of random numbers is left as it was.
    """
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = make()
        for parameter in model.parameters():
            _vary(parameter)
    return model.eval()


def _vary(parameter: torch.Tensor) -> None:
    if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
        parameter.add_(parameter.new_empty(parameter.shape).normal_(0.0, _SPREAD))
