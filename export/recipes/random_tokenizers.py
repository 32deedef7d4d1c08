"""Tokenizers of the published kinds for random weights, whose tables know no word.

A published checkpoint brings its own tokenizer.json. These read any text and have a text for every
id of the table, so that a loop around random weights can be shown at work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where BERT's vocabularies have them, and where their words begin
# (google-research/bert: vocab.txt of the uncased, cased and multilingual models).
_BERT_SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
_PRINTABLE = [chr(code) for code in range(0x21, 0x7F)]
LEAST_WORDPIECES = 104 + 2 * len(_PRINTABLE)


def wordpiece(vocabulary: int, *, lowercase: bool) -> bytes:
    """BERT's kind: characters as words, the rest of the table unused.

    Args:
        vocabulary: Rows of the table, at least LEAST_WORDPIECES.
        lowercase: Whether letters are lowered and accents dropped.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words = dict(_BERT_SPECIAL)
    pieces = [*_PRINTABLE, *(f"##{character}" for character in _PRINTABLE)]
    words |= {piece: 104 + place for place, piece in enumerate(pieces)}
    taken = set(words.values())
    words |= {f"[unused{number}]": number for number in range(vocabulary) if number not in taken}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(_BERT_SPECIAL))
    return str(tokenizer.to_str()).encode()


def byte_level(vocabulary: int, special: Mapping[str, int]) -> bytes:
    """GPT-2's kind without a merge: each byte is a token, and the rest of the table are numbers.

    Args:
        vocabulary: Rows of the table, at least 256.
        special: Special tokens and their ids, at or above 256.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from jetlift.export.recipes.clip_bpe import byte_symbols

    words = {symbol: number for number, symbol in enumerate(byte_symbols())}
    space = byte_symbols()[188 + 32]  # bytes that are not visible come after the 188 that are
    taken = {*words.values(), *special.values()}
    words |= {f"{space}{number}": number for number in range(vocabulary) if number not in taken}
    tokenizer = Tokenizer(models.BPE(vocab={**words, **special}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    return str(tokenizer.to_str()).encode()
