"""Whisper's vocabulary: its special tokens, what is never said, and a tokenizer from OpenAI's file.

A published checkpoint brings its own tokenizer.json. Random weights have none, so that theirs is
made here, of the byte-pair ranks that openai-whisper ships (whisper/assets/*.tiktoken). Ids, as in
openai/whisper, whisper/tokenizer.py: text by rank, then the end, the start, the languages, and
translate, transcribe, startoflm, startofprev, nospeech, notimestamps; time stamps come last and, as
in the hub's older files, are no tokens of the tokenizer.
"""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.export import weights
from jetlift.runtime.errors import InputError
from jetlift.runtime.tasks.greedy import GenerationFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jetlift.export.recipes.whisper_sizes import Size

    Ranks = Mapping[bytes, int]
    Never = tuple[tuple[int, ...], tuple[int, ...]]

TOKENIZER = "assets/tokenizer.json"
_BYTES = 256
# The hub's older files, tiny.en's among them, name these so.
_OLDER_WORDS = {"<|nospeech|>": "<|nocaptions|>", "<|he|>": "<|iw|>"}
# The words a tokenizer may begin a piece of text with; GPT-2's expression.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _ranks_file(name: str, sha256: str) -> weights.PackagedWeights:
    return weights.PackagedWeights(
        package="openai-whisper",
        version="20250625",
        file=f"whisper/assets/{name}.tiktoken",
        sha256=sha256,
        licence="MIT",
        note="Whisper's byte-pair ranks as OpenAI published them; nothing of it is imported",
    )


MULTILINGUAL = _ranks_file(
    "multilingual", "b34b360dbb493e781e479794586d661700670d65564001f23024971d1f2fa126"
)
ENGLISH = _ranks_file("gpt2", "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930")


def special_tokens(size: Size) -> list[str]:
    """The tokens behind the text, in order of their ids."""
    languages = (f"<|{code}|>" for code in size.language_codes)
    controls = (
        "translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps",
    )  # fmt: skip
    named = (f"<|{name}|>" for name in controls)
    return ["<|endoftext|>", "<|startoftranscript|>", *languages, *named]


def random_tokenizer(size: Size) -> bytes:
    """A tokenizer.json for weights that bring none.

    Raises:
        MissingPackageError: The package with the ranks is not installed.
        ArtefactError: It is of another version, or altered.
    """
    if size.text_tokens == _BYTES:
        return tokenizer_json({bytes([byte]): byte for byte in range(_BYTES)}, size)
    source = ENGLISH if size.english_only else MULTILINGUAL
    return tokenizer_json(read_ranks(source.locate().read_text(encoding="ascii")), size)


def read_ranks(text: str) -> dict[bytes, int]:
    """Ranks by token from the lines of a .tiktoken file: base64, a space, the rank."""
    pairs = (line.split(" ") for line in text.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def tokenizer_json(ranks: Ranks, size: Size) -> bytes:
    """Byte-pair ranks as a tokenizer.json with the size's special tokens.

    Args:
        ranks: Rank by token; it is the token's id too.
        size: Says which special tokens there are and where their ids begin.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    named = {_visible(token): rank for token, rank in ranks.items()}
    special = special_tokens(size)
    ids = named | {name: size.text_tokens + n for n, name in enumerate(special)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=_merges(ranks), fuse_unk=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    return str(tokenizer.to_str()).encode()


def _merges(ranks: Ranks) -> list[tuple[str, str]]:
    """The pair that each token was made of, by rank: what is left when only lower ranks merge."""
    made = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            pieces = _split(token, ranks, rank)
            if len(pieces) == 2:
                made.append((_visible(pieces[0]), _visible(pieces[1])))
    return made


def _split(token: bytes, ranks: Ranks, below: int) -> list[bytes]:
    pieces = [bytes([byte]) for byte in token]
    while len(pieces) > 1:
        joined = [ranks.get(a + b, below) for a, b in itertools.pairwise(pieces)]
        best = min(range(len(joined)), key=joined.__getitem__)
        if joined[best] >= below:
            break
        pieces[best : best + 2] = [pieces[best] + pieces[best + 1]]
    return pieces


def _visible(token: bytes) -> str:
    """A token as byte-level BPE writes it: bytes without a glyph are letters from U+0100 on."""
    return "".join(_SYMBOLS[byte] for byte in token)


def _symbols() -> list[str]:
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(_BYTES, 2 * _BYTES))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(_BYTES)]


_SYMBOLS = _symbols()


def generation_facts(size: Size, tokenizer: Path | bytes, never: Never) -> GenerationFacts:
    """What the vocabulary asks of the loop on the device.

    Args:
        size: The size.
        tokenizer: Its tokenizer.json, or the content.
        never: Tokens that are never taken, and not as the first.

    Raises:
        InputError: The tokenizer cannot be read, or is not that of this size.
    """
    special, name = _special_ids(tokenizer), _name_of(tokenizer)
    special |= {new: special[old] for new, old in _OLDER_WORDS.items() if old in special}
    for number, token in enumerate(special_tokens(size)):
        if special.get(token) != size.text_tokens + number:
            raise InputError(
                f"{name} gives the token {token} the id {special.get(token)}",
                expected=f"{size.text_tokens + number}, as in {size.title}'s tokenizer",
                do=f"Use the tokenizer.json of {size.hub_id}",
            )
    languages = {code: special[f"<|{code}|>"] for code in size.language_codes}
    spoken = () if size.english_only else (languages["en"], special["<|transcribe|>"])
    return GenerationFacts(
        encoder="encoder", cross="cross", decoder="decoder", tokenizer=TOKENIZER,
        prompt=(special["<|startoftranscript|>"], *spoken, special["<|notimestamps|>"]),
        end=special["<|endoftext|>"], nothing_said=special["<|nospeech|>"],
        suppress=never[0], suppress_first=never[1], max_tokens=size.most_tokens,
        languages=None if size.english_only else languages,
        transcribe=None if size.english_only else special["<|transcribe|>"],
        translate=None if size.english_only else special["<|translate|>"],
    )  # fmt: skip


def _name_of(tokenizer: Path | bytes) -> str:
    return str(tokenizer) if isinstance(tokenizer, Path) else "The tokenizer"


def _special_ids(tokenizer: Path | bytes) -> dict[str, int]:
    try:
        content = tokenizer.read_bytes() if isinstance(tokenizer, Path) else tokenizer
        added = json.loads(content)["added_tokens"]
        return {str(token["content"]): int(token["id"]) for token in added}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{_name_of(tokenizer)} cannot be read: {error}", expected="The fast tokenizer's file"
        ) from error


def suppressed(folder: Path) -> Never:
    """Tokens that are never taken, and not as the first, by whichever file states them.

    Raises:
        InputError: No file does, or it cannot be read.
    """
    for name, always, first in (
        ("generation_config.json", "suppress_tokens", "begin_suppress_tokens"),
        ("config.json", "suppress_tokens", "begin_suppress_tokens"),
        ("config.json", "suppress_ids", "suppress_ids_begin"),  # CTranslate2's
    ):
        if (folder / name).is_file():
            try:
                stated = json.loads((folder / name).read_text(encoding="utf-8"))
                return tuple(map(int, stated[always])), tuple(map(int, stated[first]))
            except KeyError:
                continue
            except (ValueError, TypeError) as error:
                raise InputError(f"{folder / name} cannot be read: {error}") from error
    raise InputError(
        f"{folder} does not say which tokens are suppressed",
        expected="generation_config.json or config.json with suppress_tokens",
    )
