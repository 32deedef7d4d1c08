"""Prompts as one text, for a detector that reads words token by token (Grounding DINO).

Rules:
    N1  The text is the token that begins it, each prompt's tokens followed by a full stop, and the
        token that ends it: what transformers' processor makes of a list of labels.
    N2  Tokens see their own prompt alone, its full stop included; positions begin anew in each
        (transformers 5.23, modeling_grounding_dino.py,
        generate_masks_with_special_tokens_and_transfer_map). So a prompt's features do not depend
        on the others', and from the spans alone the device knows positions and blocks.
    N3  A prompt whose tokens hold a full stop or a question mark would be two, and is refused, as
        are prompts that are longer together than the model reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.errors import EngineLibraryError, InputError, UsageError
from jetlift.runtime.manifest import TextPreprocess
from jetlift.runtime.text import open_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.task_forms import GroundingFacts, OpenVocabulary

    Ids = npt.NDArray[np.int64]
    Spans = tuple[tuple[int, ...], ...]

IDS, POSITIONS, BLOCKS = "input_ids", "text_positions", "text_blocks"
FEATURES = "text_features"
VALID, MASK = "valid_wh", "text_mask"
LOGITS, BOXES = "logits", "boxes_cxcywh"


def facts_of(bundle: Bundle) -> tuple[OpenVocabulary, GroundingFacts]:
    """How the bundle finds what words name, and what it fixes of its text.

    Raises:
        UsageError: It is of another family.
    """
    facts = bundle.manifest.open_vocabulary
    if facts is None or facts.grounding is None:
        raise UsageError(
            f"{bundle.manifest.model} does not read words token by token",
            expected="A bundle of the family grounding, such as grounding-dino-tiny",
        )
    return facts, facts.grounding


def encode(
    bundle: Bundle, session: Session, sentences: Sequence[str]
) -> tuple[npt.NDArray[np.float32], Spans]:
    """Features of the tokens of all prompts, and which are whose (rules N1 to N3).

    Args:
        bundle: A bundle of the family grounding.
        session: An engine of its text part.
        sentences: The prompts, each in its template.

    Returns:
        float32 [tokens, D], and per prompt its first row and the row after its last, its full stop
        not counted.

    Raises:
        UsageError: The bundle is of another family.
        InputError: A prompt would be two, has no token, or all together are too long.
        MissingPackageError: `tokenizers` is not installed.
        EngineLibraryError: The engine failed or returned NaN or infinity.
    """
    facts, words = facts_of(bundle)
    spec = bundle.part(facts.text)[1].preprocess
    if not isinstance(spec, TextPreprocess):
        raise UsageError(f"Part {facts.text} reads no text", expected="Preprocessing for texts")
    ids, spans = tokens_of(bundle.path(spec.tokenizer), words, sentences)
    positions, blocks = places(spans, len(ids))
    feeds = {IDS: ids[None], POSITIONS: positions[None], BLOCKS: blocks[None]}
    features = session.run(feeds)[FEATURES][0]
    if not np.isfinite(features).all():
        raise EngineLibraryError(
            f"Part {facts.text} returned NaN or infinity",
            expected="Finite numbers",
            do="Try --precision fp32: where that is finite, this variant overflows",
        )
    return np.asarray(features, np.float32), spans


def tokens_of(
    tokenizer_path: Path, words: GroundingFacts, sentences: Sequence[str]
) -> tuple[Ids, Spans]:
    """Token ids of the text, int64 [tokens], and the prompts' spans (rules N1 and N3).

    Raises:
        InputError: A prompt would be two, has no token, or all together are too long.
    """
    tokenizer = open_tokenizer(tokenizer_path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids, spans = [words.begin], []
    for sentence in sentences:
        own = list(tokenizer.encode(sentence, add_special_tokens=False).ids)
        if own and own[-1] == words.stop:
            own.pop()  # a prompt that ends with a full stop has it already
        _check_prompt(sentence, own, words)
        spans.append((len(ids), len(ids) + len(own)))
        ids += [*own, words.stop]
    ids.append(words.end)
    if len(ids) > words.longest:
        raise InputError(
            f"{len(sentences)} prompts have {len(ids)} tokens together",
            expected=f"At most {words.longest}, those between them included",
            do="Use fewer or shorter prompts, or run several times",
        )
    return np.array(ids, np.int64), tuple(spans)


def _check_prompt(sentence: str, own: Sequence[int], words: GroundingFacts) -> None:
    if not own:
        raise InputError(f"The prompt {sentence!r} has no token", expected="A word or a phrase")
    if {*own} & {*words.breaks}:
        raise InputError(
            f"The prompt {sentence!r} holds a sign that would split it in two for this model",
            expected="A phrase without full stops and question marks",
            do="Leave the sign out, or give the pieces as prompts of their own",
        )


def places(spans: Spans, length: int) -> tuple[Ids, Ids]:
    """Position and block of each token, int64 [length] (rule N2).

    Args:
        spans: First and last + 1 token of each prompt.
        length: Tokens of the text, or more: what follows is padding, each token a block of its own.
    """
    positions = np.zeros(length, np.int64)
    blocks = np.arange(length, dtype=np.int64)
    for start, end in spans:
        positions[start : end + 1] = np.arange(end + 1 - start)
        blocks[start : end + 1] = start
    return positions, blocks
