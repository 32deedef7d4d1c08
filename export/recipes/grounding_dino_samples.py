"""Samples of Grounding DINO's parts: pictures and a .txt file of prompts in one folder."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from jetlift.export.samples import Item
from jetlift.runtime.errors import InputError
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.preprocess import place, prepare_image
from jetlift.runtime.prompt_tokens import BLOCKS, FEATURES, IDS, POSITIONS, VALID, places, tokens_of
from jetlift.runtime.session import open_onnx
from jetlift.runtime.tasks.open_grounding import text_feeds

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    from jetlift.export.samples import ItemContext
    from jetlift.runtime.prompt_tokens import Spans
    from jetlift.runtime.task_forms import GroundingFacts

_PROMPTS = 8  # that every picture is searched for; the more the slower


def word_items(context: ItemContext, facts: GroundingFacts, tokenizer: str) -> list[Item]:
    """Each line of the folder's texts as one prompt.

    Raises:
        InputError: There are no texts, or one does not fit.
    """
    items = []
    for line in _lines(context):
        feeds, _ = _words(context, facts, tokenizer, [line])
        items.append(Item(hashlib.sha256(line.encode()).hexdigest(), (feeds,)))
    return items


def picture_items(context: ItemContext, facts: GroundingFacts, tokenizer: str) -> list[Item]:
    """Each picture of the folder, with the first prompts of its texts.

    Raises:
        InputError: There are no texts or pictures, or one cannot be read.
    """
    from jetlift.runtime.sources import open_source

    spec = context.part.preprocess
    if not isinstance(spec, ImagePreprocess):
        raise TypeError("the part takes no pictures")
    fed, spans = _words(context, facts, tokenizer, _lines(context)[:_PROMPTS])
    with open_onnx(context.files["text"], library="onnxruntime") as session:
        words = text_feeds(session.run(fed)[FEATURES][0], spans, facts.longest)
    items = []
    with open_source([str(context.folder)]) as source:
        for frame in source:
            image = frame.image_bgr
            valid = np.array([place((image.shape[1], image.shape[0]), spec).resized_wh], np.int64)
            feeds = words | {spec.input: prepare_image(image, spec), VALID: valid}
            items.append(Item(hashlib.sha256(image.tobytes()).hexdigest(), (feeds,)))
        if source.skipped:
            raise InputError(
                f"{source.skipped[0].source} cannot be read: {source.skipped[0].reason}",
                expected="Samples that are all whole, since figures must be repeatable",
                do="Remove it from the samples",
            )
    return items


def _words(
    context: ItemContext, facts: GroundingFacts, tokenizer: str, lines: list[str]
) -> tuple[dict[str, npt.NDArray[Any]], Spans]:
    ids, spans = tokens_of(context.bundle_folder / tokenizer, facts, lines)
    positions, blocks = places(spans, len(ids))
    return {IDS: ids[None], POSITIONS: positions[None], BLOCKS: blocks[None]}, spans


def _lines(context: ItemContext) -> list[str]:
    from jetlift.runtime.texts import open_texts

    with open_texts([str(context.folder)]) as source:
        return [item.text for item in source]
