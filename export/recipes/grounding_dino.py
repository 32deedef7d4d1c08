"""Grounding DINO: a picture and the tokens of all prompts to boxes.

Liu et al., Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object Detection,
arXiv 2303.05499. Sizes: https://huggingface.co/IDEA-Research/grounding-dino-tiny: config.json,
whose values are the defaults of transformers 5.23 with a Swin-T and a BERT of the base size.

Parts: `text` gives each token its features, `image` is everything else, since words and picture
look at each other in every layer of its encoder.

The picture lies on a canvas of one size, 1333x800, and the graph is told how much of it is picture.
Sizes on the canvas are those of transformers for every picture that is not taller than wide; a
taller one is smaller than there, as it must fit. The answer is that of transformers for a batch
that is padded to the canvas (with `pixel_mask`). For one picture alone transformers pads nothing,
and differs a little: the Swin backbone sees the padding at the picture's edge in either case of a
batch, and knows no mask.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jetlift.export import random_weights, weights
from jetlift.export.recipes import published, random_tokenizers
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe, read_by
from jetlift.runtime.manifest import ImagePreprocess, TensorSpec, TextPreprocess
from jetlift.runtime.prompt_tokens import (
    BLOCKS,
    BOXES,
    FEATURES,
    IDS,
    LOGITS,
    MASK,
    POSITIONS,
    VALID,
)
from jetlift.runtime.task_forms import GroundingFacts, OpenVocabulary

if TYPE_CHECKING:
    from pathlib import Path

_SAMPLES = "grounding_dino_samples"
LICENCE = "Apache-2.0"
TOKENIZER = "assets/tokenizer.json"
# post_process_grounded_object_detection of transformers 5.23.
SCORE_THRESHOLD = 0.25
# SPECIAL_TOKENS of transformers' modeling_grounding_dino.py: ids of bert-base-uncased.
BEGIN, END, STOP, QUESTION = 101, 102, 1012, 1029


@dataclass(frozen=True)
class Size:
    """One size of Grounding DINO.

    Attributes:
        canvas_wh: Width and height of the canvas in pixels.
        shortest_px: Shortest edge of a picture on it.
        swin: What SwinConfig takes.
        bert: What BertConfig takes.
        width: Length of a feature in encoder and decoder.
        layers: Layers of each of the two.
        heads: Heads of attention of each.
        inner: Width of their MLPs.
        queries: Boxes that are given.
        longest: Most tokens of a text.
    """

    canvas_wh: tuple[int, int]
    shortest_px: int
    swin: dict[str, Any]
    bert: dict[str, int]
    width: int = 256
    layers: int = 6
    heads: int = 8
    inner: int = 2048
    queries: int = 900
    longest: int = 256


_SWIN_T = {
    "image_size": 224, "embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24],
    "window_size": 7, "out_indices": [2, 3, 4],
}  # fmt: skip
_BERT_BASE = {
    "vocab_size": 30_522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "max_position_embeddings": 512,
}  # fmt: skip
SWIN_T = Size((1333, 800), 800, _SWIN_T, _BERT_BASE)
# For tests: no published weights have it. The ids of full stop and question mark are the published.
TINY = Size(
    (150, 96), 96,
    {"image_size": 32, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 4],
     "window_size": 4, "out_indices": [2, 3, 4]},
    {"vocab_size": 1100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
     "intermediate_size": 64, "max_position_embeddings": 64},
    width=32, layers=2, heads=4, inner=64, queries=30, longest=40,
)  # fmt: skip


def preprocess(size: Size) -> ImagePreprocess:
    """As GroundingDinoImageProcessorPil does it, padded to the canvas."""
    return ImagePreprocess(
        kind="image",
        input="pixel_values",
        size_wh=size.canvas_wh,
        fit="canvas",
        resize_short=size.shortest_px,
        resample="bilinear_antialias",
        colour="rgb",
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def parts(size: Size) -> dict[str, PartRecipe]:
    """The two parts of one size."""
    width, height = size.canvas_wh
    longest = size.longest
    told = _text_facts(size)
    words = [_fixed(name, "int64", (1, longest)) for name in (MASK, POSITIONS, BLOCKS)]
    image = PartRecipe(
        inputs=(
            _fixed("pixel_values", "float32", (1, 3, height, width)),
            _fixed(VALID, "int64", (1, 2)),
            _fixed(FEATURES, "float32", (1, longest, size.width)),
            *words,
        ),
        output_names=(LOGITS, BOXES),
        preprocess=preprocess(size),
        budget=f"{LOGITS}.cosine_mean>=0.99, {BOXES}.cosine_mean>=0.98",
        items=read_by(_SAMPLES, "picture_items", facts=told, tokenizer=TOKENIZER),
    )
    text = PartRecipe(
        inputs=tuple(_tokens(name, longest) for name in (IDS, POSITIONS, BLOCKS)),
        output_names=(FEATURES,),
        preprocess=TextPreprocess(kind="text", tokenizer=TOKENIZER, max_tokens=longest, ids=IDS),
        budget=f"{FEATURES}.cosine_mean>=0.99, {FEATURES}.cosine_min>=0.95",
        items=read_by(_SAMPLES, "word_items", facts=told, tokenizer=TOKENIZER),
        runs_per="prompt",
    )
    return {"image": image, "text": text}


def _fixed(name: str, dtype: Any, shape: tuple[int, ...]) -> TensorSpec:  # noqa: ANN401 - a Literal
    return TensorSpec(name, dtype, shape, min_shape=shape, opt_shape=shape, max_shape=shape)


def _tokens(name: str, longest: int) -> TensorSpec:
    common = min(16, longest)
    return TensorSpec(name, "int64", (1, "tokens"), (1, 4), (1, common), (1, longest))


def load(size: Size, title: str, hub_id: str, source: str | None) -> Loaded:
    """Build the modules from a hub id, a folder, or the word 'random'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    from transformers import GroundingDinoForObjectDetection

    from jetlift.export.recipes.grounding_dino_modules import Grounder, TokenEncoder

    tokenizer: Path | bytes
    seed = random_weights.seed_of(source)
    if seed is not None:
        model = random_weights.drawn(GroundingDinoForObjectDetection, config_of(size), seed)
        described = random_weights.describe(seed, title)
        tokenizer = _random_tokenizer(size.bert["vocab_size"])
    else:
        name = source or hub_id
        file = weights.weights_file(weights.local_or_hub(name))
        published.check_config(file.parent, _stated(size))
        tokenizer = published.tokenizer_of(file.parent)
        state = weights.read_safetensors(file)
        architecture = GroundingDinoForObjectDetection
        model = weights.pretrained(architecture, config_of(size), state, title)
        described = weights.describe(name, file, hub_id=hub_id, licence=LICENCE)
    canvas_hw = (size.canvas_wh[1], size.canvas_wh[0])
    modules = {  # in this order: the second takes apart what the first has taken its share of
        "text": TokenEncoder(model).eval(),
        "image": Grounder(model, canvas_hw, size.longest).eval(),
    }
    return Loaded(described, modules, {TOKENIZER: tokenizer}, open_vocabulary=facts(size))


def facts(size: Size) -> OpenVocabulary:
    """How boxes are found; transformers suppresses none that overlap."""
    return OpenVocabulary(
        family="grounding",
        image="image",
        text="text",
        template="{}",
        score_threshold=SCORE_THRESHOLD,
        iou_threshold=None,
        grounding=_text_facts(size),
    )


def _text_facts(size: Size) -> GroundingFacts:
    return GroundingFacts(size.longest, BEGIN, END, STOP, breaks=(BEGIN, END, STOP, QUESTION))


def config_of(size: Size) -> Any:  # noqa: ANN401 - transformers ships no types
    """One size in transformers' words."""
    from transformers import BertConfig, GroundingDinoConfig, SwinConfig

    return GroundingDinoConfig(
        backbone_config=SwinConfig(**size.swin),
        text_config=BertConfig(**size.bert),
        **_stated(size),
    )


def _stated(size: Size) -> dict[str, int]:
    """What config.json says of encoder and decoder."""
    return {
        "d_model": size.width,
        "encoder_layers": size.layers,
        "decoder_layers": size.layers,
        "encoder_attention_heads": size.heads,
        "decoder_attention_heads": size.heads,
        "encoder_ffn_dim": size.inner,
        "decoder_ffn_dim": size.inner,
        "num_queries": size.queries,
        "max_text_len": size.longest,
    }


def _random_tokenizer(vocabulary: int) -> bytes:
    """Characters as words, full stop and question mark at the ids that the model splits at."""
    content = json.loads(random_tokenizers.wordpiece(vocabulary, lowercase=True))
    words: dict[str, int] = content["model"]["vocab"]
    at = {number: word for word, number in words.items()}
    for sign, number in ((".", STOP), ("?", QUESTION)):
        words[at[number]], words[sign] = words[sign], number
    return json.dumps(content).encode()


def recipe(name: str, title: str, size: Size, hub_id: str, parameters: int) -> Recipe:
    """One size as a recipe."""
    return Recipe(
        name=name,
        title=title,
        tasks=("detect",),
        hub_id=hub_id,
        licence=LICENCE,
        packaged=None,
        parameters=parameters,
        parts=parts(size),
        load=partial(load, size, title, hub_id),
        random=True,
    )


RECIPE = recipe(
    "grounding-dino-tiny",
    "Grounding DINO Swin-T",
    SWIN_T,
    "IDEA-Research/grounding-dino-tiny",
    172_249_090,
)
