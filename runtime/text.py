"""From sentences to the token ids of a part.

Rules:
    T1  A text longer than `max_tokens` is cut there, and `Prepared.truncated` says so.
    T2  A batch is padded to its longest text, or each text to `pad_to`; the mask is 0 on padding.
    T3  A blank text is refused: its embedding would rank like any other and mean nothing.
    T4  Truncation and padding that tokenizer.json asks for itself are put aside for T1 and T2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import BundleError, InputError, MissingPackageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.runtime.manifest import TextPreprocess

    Ids = npt.NDArray[np.int64]

# What the common vocabularies call padding, for a tokenizer.json that does not say.
_PADDING_TOKENS = ("[PAD]", "<pad>", "<|endoftext|>")


@dataclass(frozen=True)
class Prepared:
    """Texts made ready for their part.

    Attributes:
        feeds: Graph inputs by name, int64 [batch, longest].
        tokens: Number of tokens of each text, special tokens included, after cutting.
        truncated: For each text, whether it was cut (rule T1).
    """

    feeds: dict[str, Ids]
    tokens: tuple[int, ...]
    truncated: tuple[bool, ...]


class TextPreparer:
    """A part's tokenizer.

    Args:
        spec: The part's preprocessing.
        tokenizer_path: The tokenizer.json that it names.

    Raises:
        MissingPackageError: `tokenizers` is not installed.
        BundleError: The file is no tokenizer.
    """

    def __init__(self, spec: TextPreprocess, tokenizer_path: Path) -> None:
        self._spec = spec
        self._tokenizer = open_tokenizer(tokenizer_path)
        named = spec.pad_id
        self._padding_id = _padding_id(self._tokenizer) if named is None else named
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_tokens)

    def __call__(self, texts: Sequence[str]) -> dict[str, Ids]:
        """Graph inputs for the texts, where it does not matter whether one was cut.

        Raises:
            InputError: A text is blank.
            UsageError: There are no texts, or the tokenizer cannot pad a batch.
        """
        return self.prepare(texts).feeds

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Make texts ready as one batch (rules T1 to T4).

        Raises:
            InputError: A text is blank.
            UsageError: There are no texts, or the tokenizer cannot pad a batch.
        """
        if not texts:
            raise UsageError("A batch of no texts was asked for", expected="At least one text")
        for text in texts:
            _refuse_blank(text)
        encodings = self._tokenizer.encode_batch(list(texts))
        lengths = tuple(len(encoding.ids) for encoding in encodings)
        feeds = {
            self._spec.ids: self._padded([item.ids for item in encodings], self._filler(lengths))
        }
        if self._spec.mask is not None:
            feeds[self._spec.mask] = self._padded([item.attention_mask for item in encodings], 0)
        if self._spec.type_ids is not None:
            feeds[self._spec.type_ids] = self._padded([item.type_ids for item in encodings], 0)
        return Prepared(feeds, lengths, tuple(bool(item.overflowing) for item in encodings))

    def _filler(self, lengths: tuple[int, ...]) -> int:
        if self._padding_id is not None:
            return self._padding_id
        if len({*lengths, self._spec.pad_to or lengths[0]}) > 1:
            raise UsageError(
                "This tokenizer names no padding token",
                expected="Texts of one length, or a batch of one",
            )
        return 0

    def _padded(self, rows: Sequence[Sequence[int]], filler: int) -> Ids:
        length = self._spec.pad_to or max(map(len, rows))
        padded = np.full((len(rows), length), filler, np.int64)
        for target, row in zip(padded, rows, strict=True):
            target[: len(row)] = row
        return padded


def _refuse_blank(text: str) -> None:
    if not text.strip():
        raise InputError(
            f"Got the blank text {text!r}", expected="A text with at least one visible character"
        )


def open_tokenizer(path: Path) -> Any:  # noqa: ANN401 - tokenizers ships no types
    """Read a tokenizer.json.

    Raises:
        MissingPackageError: `tokenizers` is not installed.
        BundleError: The file is no tokenizer.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise MissingPackageError(
            "tokenizers", extra="text", purpose="to turn text into a model's input"
        ) from error
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises this very class
        raise BundleError(
            f"{path.name} cannot be read as a tokenizer: {error}",
            expected="A tokenizer.json of the tokenizers package",
            do="Install a newer tokenizers, or export the bundle again",
        ) from error


def _padding_id(tokenizer: Any) -> int | None:  # noqa: ANN401
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    ids = (tokenizer.token_to_id(token) for token in _PADDING_TOKENS)
    return next((int(number) for number in ids if number is not None), None)
