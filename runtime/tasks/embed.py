"""Embeddings of pictures or texts.

Fields: `embedding` (as the graph returns it: DINOv2's is not normalised, MiniLM's has norm 1); for
texts also `tokens` and `truncated`. Arrays: `embedding` [D] and, where asked for, `patch_tokens`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.runtime.errors import UsageError
from jetlift.runtime.tasks.base import (
    Outcome,
    Prepared,
    StepTask,
    Task,
    place_of,
    short_floats,
)
from jetlift.runtime.tasks.encoder import Encoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Array, Item


class EmbedTask(StepTask):
    """One embedding per input.

    Args:
        encoder: What computes it.
        patch_tokens: Whether to keep the patch tokens as well, in the arrays alone.

    Raises:
        UsageError: Patch tokens are asked of a part that has none.
    """

    name = "embed"

    def __init__(self, encoder: Encoder, *, patch_tokens: bool = False) -> None:
        if patch_tokens and encoder.part.patch_grid_hw is None:
            raise UsageError(f"Part {encoder.part_name} has no patch tokens to keep")
        self._encoder, self._patch_tokens = encoder, patch_tokens

    @property
    def notes(self) -> tuple[str, ...]:
        """See Task.notes."""
        return self._encoder.notes

    @property
    def engine(self) -> Session:
        """See StepTask.engine."""
        return self._encoder.engine

    def prepare(self, item: Item) -> Prepared:
        """See StepTask.prepare."""
        return self._encoder.prepare(item)

    def finish(self, item: Item, prepared: Prepared, outputs: Mapping[str, Array]) -> Outcome:
        """Keep the embedding; see StepTask.finish."""
        encoding = self._encoder.finish(item, prepared, outputs)
        fields = place_of(item) | {"embedding": short_floats(encoding.embedding)}
        if encoding.tokens is not None:
            fields |= {"tokens": encoding.tokens, "truncated": encoding.truncated}
        arrays = {"embedding": encoding.embedding}
        if self._patch_tokens and encoding.patch_tokens is not None:
            arrays["patch_tokens"] = encoding.patch_tokens
        return Outcome(fields, arrays)


def open_from(
    bundle: Bundle,
    session: Session,
    _precision: str,
    part: str | None,
    *,
    patch_tokens: bool = False,
) -> Task:
    """The task on a session, with patch tokens on request; see open_task."""
    return EmbedTask(Encoder(bundle, session, part), patch_tokens=patch_tokens)
