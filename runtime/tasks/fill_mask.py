"""Words for the gaps of a sentence.

A sentence has one mask or several, each written as the model's own mask token ([MASK]). Fields:
`text` (the sentence with the best word in each gap), `masks`, one per gap in order: `position` (of
the token in the sequence, from 0) and `candidates`, best first: `word`, `id`, `probability`; and
`tokens`.

The graph takes `mask_positions` int64 [1, masks] beside the text and gives `logits` [1, masks,
vocabulary], so that the vocabulary is weighed at the gaps alone.

Rules:
    F1  Each gap is filled for itself, the others still open: the model gives no joint probability.
    F2  A text without a mask, with more than the graph takes, or longer than the model's limit is
        refused; a gap might be cut off with its end.
    F3  A word that belongs to the one before it is told as its token has it (`##ing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import BundleError, EngineLibraryError, InputError, UsageError
from jetlift.runtime.manifest import TextPreprocess
from jetlift.runtime.sampling import probabilities
from jetlift.runtime.tasks.base import Outcome, Task, place_of
from jetlift.runtime.text import TextPreparer, open_tokenizer
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item

POSITIONS, LOGITS = "mask_positions", "logits"
MASK_TOKENS = ("[MASK]", "<mask>")
_CONTINUES = "##"


class FillMaskTask(Task):
    """The likeliest words for each gap of a text.

    Args:
        bundle: A verified bundle of a masked language model.
        session: An open session of its part.
        part: Name of the part; may be left out where the bundle has one.
        count: How many words per gap.

    Raises:
        UsageError: The part does not fill masks, or the count is not positive.
        BundleError: The tokenizer has no mask.
        MissingPackageError: `tokenizers` is not installed.
    """

    name = "fill-mask"

    def __init__(
        self, bundle: Bundle, session: Session, part: str | None = None, *, count: int = 5
    ) -> None:
        name, described = bundle.part(part)
        spec = described.preprocess
        inputs = {item.name: item for item in described.inputs}
        if not isinstance(spec, TextPreprocess) or POSITIONS not in inputs:
            raise UsageError(
                f"Part {name} fills no masks", expected=f"A part with text and {POSITIONS}"
            )
        if count < 1:
            raise UsageError(f"Got {count} words per mask", expected="1 or more")
        most = inputs[POSITIONS].max_shape
        self._most = most[1] if most is not None else spec.max_tokens
        self._session, self._spec, self._count = session, spec, count
        self._text = TextPreparer(spec, bundle.path(spec.tokenizer))
        self._tokenizer = open_tokenizer(bundle.path(spec.tokenizer))
        self._mask, self._mask_id = mask_of(self._tokenizer)

    def process(self, item: Item) -> Outcome:
        """Fill one text's gaps; see Task.process.

        Raises:
            InputError: It has no gap, too many, or is too long (rule F2).
        """
        if not isinstance(item, TextItem):
            raise UsageError("Task fill-mask got no text", expected="Sentences")
        prepared = self._text.prepare([item.text])
        where = f"Text {item.index} of {item.source}"
        if prepared.truncated[0]:
            raise InputError(
                f"{where} is longer than the model reads",
                expected=f"At most {self._spec.max_tokens} tokens, so that no mask is cut off",
                do="Shorten it",
            )
        places = np.flatnonzero(prepared.feeds[self._spec.ids][0] == self._mask_id)
        if not 0 < len(places) <= self._most:
            raise InputError(
                f"{where} has {len(places)} masks",
                expected=f"1 to {self._most}, each written as {self._mask}",
            )
        outputs = self._session.run(prepared.feeds | {POSITIONS: places[None].astype(np.int64)})
        scores = zip(places.tolist(), outputs[LOGITS][0], strict=True)
        masks = [self._told(place, logits) for place, logits in scores]
        words = [mask["candidates"][0]["word"] for mask in masks]
        fields = {
            "text": filled(item.text, self._mask, words),
            "masks": masks,
            "tokens": prepared.tokens[0],
        }
        return Outcome(place_of(item) | fields, {})

    def _told(self, place: int, logits: npt.NDArray[np.floating]) -> dict[str, Any]:
        if not np.isfinite(logits).all():
            raise EngineLibraryError(
                f"The scores at token {place} hold NaN or infinity",
                expected="Finite numbers",
                do="Try --precision fp32: where that is finite, this variant overflows",
            )
        shares = probabilities(logits)
        best = np.argsort(-shares, kind="stable")[: self._count]
        candidates = [
            {
                "word": self._tokenizer.id_to_token(int(token)),
                "id": int(token),
                "probability": round(float(shares[token]), 6),
            }
            for token in best
        ]
        return {"position": place, "candidates": candidates}


def mask_of(tokenizer: Any) -> tuple[str, int]:  # noqa: ANN401 - the package ships no types
    """A tokenizer's mask and its id.

    Raises:
        BundleError: It has none.
    """
    for token in MASK_TOKENS:
        number = tokenizer.token_to_id(token)
        if number is not None:
            return token, int(number)
    raise BundleError("The tokenizer has no mask", expected=f"One of {', '.join(MASK_TOKENS)}")


def filled(text: str, mask: str, words: list[str]) -> str:
    """A text with a word in each of its gaps (rule F3: one that continues a word joins it)."""
    pieces = text.split(mask)
    told = pieces[0]
    for piece, word in zip(pieces[1:], words, strict=False):
        joined = told.rstrip() if word.startswith(_CONTINUES) else told
        told = joined + word.removeprefix(_CONTINUES) + piece
    return told


def open_from(
    bundle: Bundle, session: Session, _precision: str, part: str | None, *, count: int = 5
) -> Task:
    """The task on a session, with how many words to give; see open_task."""
    return FillMaskTask(bundle, session, part, count=count)
