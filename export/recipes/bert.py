"""BERT: words for the gaps of a sentence.

Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, arXiv 1810.04805. Sizes:
config.json of https://huggingface.co/google-bert/bert-base-uncased, -cased and -multilingual-cased.

The graph takes one sentence, so that its token types are all the first, and the places of its
gaps. The vocabulary is weighed there alone: at every place it would be a fifth of the whole work.
Sentence embeddings are all-MiniLM-L6-v2's work (minilm.py): a BERT that was trained for nothing but
gaps ranks sentences poorly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.export import random_weights, weights
from jetlift.export.fidelity.classes import ClassMetric
from jetlift.export.recipes import published, random_tokenizers
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe
from jetlift.export.samples import Item
from jetlift.runtime.manifest import TensorSpec, TextPreprocess
from jetlift.runtime.tasks.fill_mask import LOGITS, POSITIONS, mask_of
from jetlift.runtime.text import open_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from jetlift.export.fidelity.metric import MetricContext
    from jetlift.export.samples import ItemContext

    State = dict[str, npt.NDArray[np.float32]]

LICENCE = "Apache-2.0"
TOKENIZER = "assets/tokenizer.json"
IDS, MASK = "input_ids", "attention_mask"
MOST_MASKS = 16
_CONTINUES = "##"
# What pre-training had beside the words: whether two sentences follow each other.
LEFT_OUT = ("bert.pooler.dense.", "cls.seq_relationship.")
_PLACES = "bert.embeddings.position_ids"


@dataclass(frozen=True)
class Size:
    """One size of BERT.

    Attributes:
        vocabulary: Rows of the table of tokens.
        lowercase: Whether its tokenizer lowers letters; told for random weights alone.
        width: Length of a hidden state.
        layers: Number of layers.
        heads: Heads of attention.
        context: Longest text in tokens.
    """

    vocabulary: int
    lowercase: bool = False
    width: int = 768
    layers: int = 12
    heads: int = 12
    context: int = 512


UNCASED, CASED, MULTILINGUAL = Size(30_522, lowercase=True), Size(28_996), Size(119_547)
# For tests: no published weights have it.
TINY = Size(1024, lowercase=True, width=32, layers=2, heads=2, context=64)


def parts(size: Size) -> dict[str, PartRecipe]:
    """The one part."""

    def tokens(name: str) -> TensorSpec:
        common = min(64, size.context)
        return TensorSpec(
            name, "int64", ("batch", "sequence"), (1, 3), (1, common), (8, size.context)
        )

    gaps = TensorSpec(
        POSITIONS, "int64", ("batch", "masks"), (1, 1), (1, 1), (8, min(MOST_MASKS, size.context))
    )
    text = PartRecipe(
        inputs=(tokens(IDS), tokens(MASK), gaps),
        output_names=(LOGITS,),
        preprocess=TextPreprocess(
            kind="text", tokenizer=TOKENIZER, max_tokens=size.context, ids=IDS, mask=MASK
        ),
        budget="top1_agreement>=0.95, logits.cosine_mean>=0.99",
        metric=_metric,
        items=masked_items,
    )
    return {"text": text}


def config_of(size: Size) -> Any:  # noqa: ANN401 - transformers ships no types
    """One size in transformers' words."""
    from transformers import BertConfig

    return BertConfig(**_sizes(size))


def _sizes(size: Size) -> dict[str, int]:
    return {
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": 4 * size.width,
        "max_position_embeddings": size.context,
        "type_vocab_size": 2,
    }


def load(size: Size, title: str, hub_id: str, source: str | None) -> Loaded:
    """Build the module from a hub id, a folder, or the word 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    from transformers import BertForMaskedLM

    from jetlift.export.recipes.bert_modules import FillMask

    tokenizer: Path | bytes
    seed = random_weights.seed_of(source)
    if seed is not None:
        model = random_weights.drawn(BertForMaskedLM, config_of(size), seed)
        described = random_weights.describe(seed, title)
        tokenizer = random_tokenizers.wordpiece(size.vocabulary, lowercase=size.lowercase)
    else:
        name = source or hub_id
        file = weights.weights_file(weights.local_or_hub(name))
        published.check_config(file.parent, _sizes(size))
        tokenizer = published.tokenizer_of(file.parent)
        state = words_alone(weights.read_safetensors(file))
        model = weights.pretrained(BertForMaskedLM, config_of(size), state, title)
        described = weights.describe(name, file, hub_id=hub_id, licence=LICENCE)
    return Loaded(described, {"text": FillMask(model).eval()}, {TOKENIZER: tokenizer})


def words_alone(state: Mapping[str, npt.NDArray[Any]]) -> State:
    """A pre-training checkpoint's weights for words, under today's names.

    The published files call a norm's weight and bias gamma and beta, and hold what judged pairs of
    sentences as well (huggingface/candle#1887 lists their names).
    """
    found = {}
    for name, array in state.items():
        if name.startswith(LEFT_OUT) or name == _PLACES:
            continue
        today = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        found[today.replace("LayerNorm.beta", "LayerNorm.bias")] = array
    return found


def masked_items(context: ItemContext) -> list[Item]:
    """Sentences with one word masked in each, by a fixed rule.

    The word is the first at or behind the middle of the tokens that is a token of its own: none
    that continues a word or is continued. A sentence without one, or too long, is left out.
    """
    import hashlib

    from jetlift.runtime.text import TextPreparer
    from jetlift.runtime.texts import open_texts

    spec = context.part.preprocess
    if not isinstance(spec, TextPreprocess):
        raise TypeError("the part takes no text")
    path = context.bundle_folder / spec.tokenizer
    preparer, tokenizer = TextPreparer(spec, path), open_tokenizer(path)
    _, mask = mask_of(tokenizer)
    items = []
    with open_texts([str(context.folder)]) as source:
        for item in source:
            prepared = preparer.prepare([item.text])
            ids = prepared.feeds[IDS][0]
            place = None if prepared.truncated[0] else word_to_mask(ids.tolist(), tokenizer)
            if place is not None:
                items.append(_masked(prepared.feeds, place, mask, item.text))
    return [
        Item(hashlib.sha256(text.encode()).hexdigest(), (feeds,), label)
        for feeds, label, text in items
    ]


def _masked(
    feeds: dict[str, Any], place: int, mask: int, text: str
) -> tuple[dict[str, Any], int, str]:
    import numpy as np

    ids, label = feeds[IDS].copy(), int(feeds[IDS][0, place])
    ids[0, place] = mask
    return feeds | {IDS: ids, POSITIONS: np.array([[place]], np.int64)}, label, text


def word_to_mask(ids: list[int], tokenizer: Any) -> int | None:  # noqa: ANN401 - no types
    """Which token of a sentence to mask; None where no word is a token of its own."""
    words = [str(tokenizer.id_to_token(number)) for number in ids]
    for place in range(len(ids) // 2, len(ids) - 1):  # the last one ends the text
        alone = not words[place].startswith(_CONTINUES) and words[place].isalpha()
        if alone and not words[place + 1].startswith(_CONTINUES):
            return place
    return None


def _metric(context: MetricContext) -> ClassMetric:
    """Whether the same word comes first, and whether it is the one that was masked."""
    return ClassMetric(LOGITS, context.samples.labels or None)


def recipe(name: str, title: str, size: Size, hub_id: str, parameters: int) -> Recipe:
    """One size as a recipe."""
    return Recipe(
        name=name,
        title=title,
        tasks=("fill-mask",),
        hub_id=hub_id,
        licence=LICENCE,
        packaged=None,
        parameters=parameters,
        parts=parts(size),
        load=partial(load, size, title, hub_id),
        random=True,
    )


RECIPES = (
    recipe("bert-base", "BERT base, uncased", UNCASED, "google-bert/bert-base-uncased",
           109_514_298),
    recipe("bert-base-cased", "BERT base, cased", CASED, "google-bert/bert-base-cased",
           108_340_804),
    recipe("bert-base-multilingual", "BERT base, multilingual, cased", MULTILINGUAL,
           "google-bert/bert-base-multilingual-cased", 177_974_523),
)  # fmt: skip
