"""CLIP's tokenizer, from the merges that open_clip_torch ships, and leftovers of its checkpoints.

A published checkpoint brings its own tokenizer.json. Random weights have none, so that theirs is
made here as transformers makes it (transformers/models/clip/tokenization_clip.py, 5.23): lower
case, byte-level BPE with `</w>` at the end of a word. Ids: the 256 bytes, the 256 with `</w>`, one
per merge, and last the tokens that begin and end a text (openai/CLIP, clip/simple_tokenizer.py).
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export import weights
from jetlift.runtime.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    Merge = tuple[str, str]

START, END = "<|startoftext|>", "<|endoftext|>"
_END_OF_WORD = "</w>"
_BYTES = 256

# Only the file of merges is read; nothing of the package is imported.
MERGES = weights.PackagedWeights(
    package="open_clip_torch",
    version="3.3.0",
    file="open_clip/bpe_simple_vocab_16e6.txt.gz",
    sha256="924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
    licence="MIT",
    note="CLIP's byte-pair merges as OpenAI published them",
)
# Numbers of places, 0 to n - 1, which older versions of transformers saved and newer ones make.
_PLACES = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def merges(count: int) -> list[Merge]:
    """The first of CLIP's merges, in order of their rank; none needs no package.

    Raises:
        MissingPackageError: The package with the merges is not installed.
        ArtefactError: It is of another version, or altered.
    """
    if count == 0:
        return []
    lines = gzip.decompress(MERGES.locate().read_bytes()).decode("utf-8").split("\n")
    pairs = [line.split() for line in lines[1 : 1 + count]]  # the first line names the version
    return [(first, second) for first, second in pairs]


def tokenizer_json(ranked: Sequence[Merge]) -> bytes:
    """CLIP's tokenizer with these merges as a tokenizer.json.

    Args:
        ranked: Pairs of symbols by rank; without any, each byte is a token.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import RobertaProcessing

    symbols = byte_symbols()
    names = [*symbols, *(symbol + _END_OF_WORD for symbol in symbols)]
    names += [first + second for first, second in ranked]
    names += [START, END]
    ids = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=ids,
            merges=list(ranked),
            unk_token=END,
            continuing_subword_prefix="",
            end_of_word_suffix=_END_OF_WORD,
            fuse_unk=False,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = RobertaProcessing(
        (END, ids[END]), (START, ids[START]), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.add_special_tokens([START, END])
    return str(tokenizer.to_str()).encode()


def byte_symbols() -> list[str]:
    """A visible symbol for each byte, in the order of CLIP's ids.

    Bytes that are visible in Latin-1 come first and stand for themselves, then the others, which
    stand as the letters from U+0100 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = len(set(range(_BYTES)) - set(visible))
    return [chr(byte) for byte in visible] + [chr(_BYTES + number) for number in range(hidden)]


def without_positions(file: Path) -> dict[str, npt.NDArray[Any]]:
    """A checkpoint's weights without the numbers of places, which are no weights.

    Raises:
        InputError: The file cannot be read.
        ArtefactError: These numbers are others than 0, 1, 2 and so on.
    """
    state = weights.read_safetensors(file)
    for name in _PLACES:
        places = state.pop(name, None)
        if places is not None and not np.array_equal(places.reshape(-1), np.arange(places.size)):
            raise ArtefactError(
                f"{file} numbers its places otherwise in {name}", expected="0, 1, 2 and so on"
            )
    return state
