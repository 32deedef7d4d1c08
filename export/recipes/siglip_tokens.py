"""SigLIP's tokenizer: what happens to a text before it, and the form that the device reads.

Rules:
    S1  Texts are made canonical first, as google-research/big_vision does
        (big_vision/evaluators/proj/image_text/prompt_engineering.py): lower case, ASCII
        punctuation gone, runs of white space one space, none at the ends. SigLIP 2 was trained on
        lower case alone (transformers 5.23, tokenization_siglip2.py).
    S2  A checkpoint's tokenizer.json keeps its own steps, which come after these. Making a
        canonical text canonical changes nothing, so it does not matter whether the file does it.
    S3  Without tokenizer.json, the SentencePiece model spiece.model is turned into one: its pieces,
        scores and normalisation table, as transformers converts such models.
    S4  Each text ends with the end token; the file is refused where it does not do that.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import ArtefactError, InputError
from jetlift.runtime.text import open_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

UNDERLINE = "\u2581"  # what SentencePiece writes for a space
TOKENIZER, PIECES = "tokenizer.json", "spiece.model"
_PUNCTUATION = "[" + re.escape(string.punctuation) + "]"


def published(folder: Path, *, end: int, vocabulary: int, punctuation: bool) -> bytes:
    """The tokenizer of a checkpoint, as tokenizer.json.

    Args:
        folder: The checkpoint's folder.
        end: Id of the token that ends a text.
        vocabulary: Rows of the model's table of tokens.
        punctuation: Whether punctuation stays in a canonical text.

    Raises:
        InputError: There is neither tokenizer.json nor spiece.model.
        ArtefactError: The tokenizer is another model's.
    """
    if (folder / TOKENIZER).is_file():
        tokenizer = open_tokenizer(folder / TOKENIZER)
    elif (folder / PIECES).is_file():
        tokenizer = _from_sentencepiece(folder / PIECES, end)
    else:
        raise InputError(
            f"{folder} has no {TOKENIZER} and no {PIECES}", expected="One of SigLIP's tokenizers"
        )
    _make_canonical(tokenizer, punctuation=punctuation)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = tokenizer.encode("a").ids
    if len(ids) < 2 or ids[-1] != end or tokenizer.get_vocab_size() > vocabulary:  # S4
        raise ArtefactError(
            f"The tokenizer of {folder} has {tokenizer.get_vocab_size()} tokens and ends 'a' "
            f"with {ids[-1:]}",
            expected=f"At most {vocabulary} tokens and the end token {end}, as SigLIP has",
        )
    return str(tokenizer.to_str()).encode()


def drawn(vocabulary: int, *, end: int, pad: int, punctuation: bool) -> bytes:
    """A tokenizer for random weights: characters as words, the rest of the table unused.

    Args:
        vocabulary: Rows of the table, at least 256.
        end: Id of the token that ends a text.
        pad: Id of padding.
        punctuation: Whether punctuation stays in a canonical text.
    """
    characters = [chr(code) for code in range(0x21, 0x7F) if not chr(code).isupper()]
    names = ["<pad>", "</s>", "<unk>", UNDERLINE, *characters]
    if (pad, end) == (1, 1):  # SigLIP 1 pads with its end token, which is its second
        names[0] = "<unused>"
    names += [f"<{number}>" for number in range(len(names), vocabulary)]
    tokenizer = _unigram([(name, -10.0) for name in names], names.index("<unk>"), None, end)
    _make_canonical(tokenizer, punctuation=punctuation)
    return str(tokenizer.to_str()).encode()


def _make_canonical(tokenizer: Any, *, punctuation: bool) -> None:  # noqa: ANN401 - no types
    """Put rule S1 before whatever the tokenizer does itself (rule S2)."""
    from tokenizers import Regex, normalizers

    steps: list[Any] = [normalizers.Lowercase()]
    if not punctuation:
        steps += [
            normalizers.Replace(Regex(_PUNCTUATION), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    if tokenizer.normalizer is not None:
        steps.append(tokenizer.normalizer)
    tokenizer.normalizer = normalizers.Sequence(steps)


def _from_sentencepiece(path: Path, end: int) -> Any:  # noqa: ANN401 - tokenizers ships no types
    """A Unigram SentencePiece model as a tokenizer (rule S3).

    Raises:
        InputError: It is no such model.
    """
    from google.protobuf.message import DecodeError
    from transformers.convert_slow_tokenizer import import_protobuf

    model = import_protobuf().ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InputError(f"{path} cannot be read: {error}", expected="A SentencePiece model") from (
            error
        )
    if model.trainer_spec.model_type != 1 or not model.pieces:
        raise InputError(
            f"{path} is a SentencePiece model of another kind", expected="A Unigram model"
        )
    pieces = [(item.piece, item.score) for item in model.pieces]
    table = model.normalizer_spec.precompiled_charsmap
    return _unigram(pieces, int(model.trainer_spec.unk_id), table or None, end)


def _unigram(
    pieces: Sequence[tuple[str, float]], unknown: int, table: bytes | None, end: int
) -> Any:  # noqa: ANN401 - tokenizers ships no types
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(models.Unigram(list(pieces), unk_id=unknown, byte_fallback=False))
    steps: list[Any] = [] if table is None else [normalizers.Precompiled(table)]
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement=UNDERLINE, prepend_scheme="always", split=True
    )
    tokenizer.decoder = decoders.Metaspace(replacement=UNDERLINE, prepend_scheme="always")
    name = pieces[end][0]
    tokenizer.post_processor = TemplateProcessing(
        single=["$A", name], pair=["$A", name, "$B", name], special_tokens=[(name, end)]
    )
    return tokenizer
