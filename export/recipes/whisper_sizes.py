"""The sizes of Whisper: one table of facts.

Widths, heads, layers, positions and mel bins are the dimensions of openai/whisper (ModelDimensions
of whisper/model.py; paper, table 1); the inner width of an MLP is four times the width. The hub's
models state the same in their config.json. `.en` models know English alone, with the vocabulary of
GPT-2, whose ids lie one lower. large-v3 and its turbo have 128 mel bins and one language more,
Cantonese. Parameters are those of transformers' WhisperForConditionalGeneration, whose output
projection is the token embedding. Licences are those on the hub's pages, huggingface.co/<hub id>;
code and weights at https://github.com/openai/whisper are MIT. The turbo was not trained to
translate (openai/whisper, README.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.languages import LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Iterable

STAMPS = 1501  # 0.00 s to 30.00 s
_CONTROLS = 6  # translate, transcribe, startoflm, startofprev, nospeech, notimestamps


@dataclass(frozen=True)
class Size:
    """One size of Whisper.

    Attributes:
        name: Name of the recipe.
        title: Name for people.
        width: Width of the hidden states.
        heads: Attention heads, in the encoder and in the decoder.
        encoder_layers: Layers of the encoder.
        decoder_layers: Layers of the decoder.
        vocabulary: Tokens, time stamps among them.
        mel_bins: Rows of the log-mel picture.
        hub_id: Source on the Hugging Face hub.
        licence: Licence of the weights there.
        parameters: Number of parameters.
        languages: How many of LANGUAGES it has tokens for, the first ones.
        english_only: Whether it was trained on English alone, whatever its vocabulary names.
        inner: Width of the MLP.
        frames: Columns of the log-mel picture: 30 s, 10 ms each.
        times: Positions of the encoder.
        positions: Positions of the decoder.
    """

    name: str
    title: str
    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int
    mel_bins: int
    hub_id: str
    licence: str
    parameters: int
    languages: int
    english_only: bool
    inner: int
    frames: int = 3000
    times: int = 1500
    positions: int = 448

    @property
    def text_tokens(self) -> int:
        """How many ids are text; the next one ends a sequence."""
        return self.vocabulary - STAMPS - _CONTROLS - self.languages - 2

    @property
    def language_codes(self) -> tuple[str, ...]:
        """Codes of the languages in the order of their tokens."""
        return tuple(LANGUAGES)[: self.languages]

    @property
    def most_tokens(self) -> int:
        """Half of the positions, as the authors decode (openai/whisper, whisper/decoding.py)."""
        return self.positions // 2


def _size(
    name: str,
    width_heads: tuple[int, int],
    layers: tuple[int, int],
    parameters: int,
    *,
    mel_bins: int = 80,
    licence: str = "Apache-2.0",
) -> Size:
    hub_name = name.replace("-en", ".en") if name.endswith("-en") else name
    english = name.endswith("-en")
    languages = 100 if mel_bins == 128 else 99
    return Size(
        name=f"whisper-{name}", title=f"Whisper {hub_name}", width=width_heads[0],
        heads=width_heads[1], encoder_layers=layers[0], decoder_layers=layers[1],
        vocabulary=51_864 if english else 51_766 + languages, mel_bins=mel_bins,
        hub_id=f"openai/whisper-{hub_name}", licence=licence, parameters=parameters,
        languages=languages, english_only=english, inner=4 * width_heads[0],
    )  # fmt: skip


SIZES: tuple[Size, ...] = (
    _size("tiny", (384, 6), (4, 4), 37_760_640),
    _size("tiny-en", (384, 6), (4, 4), 37_760_256),
    _size("base", (512, 8), (6, 6), 72_593_920),
    _size("base-en", (512, 8), (6, 6), 72_593_408),
    _size("small", (768, 12), (12, 12), 241_734_912),
    _size("small-en", (768, 12), (12, 12), 241_734_144),
    _size("medium", (1024, 16), (24, 24), 763_857_920),
    _size("medium-en", (1024, 16), (24, 24), 763_856_896),
    _size("large-v3", (1280, 20), (32, 32), 1_543_490_560, mel_bins=128),
    _size("large-v3-turbo", (1280, 20), (32, 4), 808_878_080, mel_bins=128, licence="MIT"),
)

# For tests: no published weights have it. Its text tokens are the 256 bytes, so that it needs no
# package; languages, controls and time stamps are all there.
TINY = Size(
    name="whisper-for-tests", title="Whisper for tests", width=32, heads=2,
    encoder_layers=2, decoder_layers=2, vocabulary=256 + 2 + 99 + _CONTROLS + STAMPS, mel_bins=80,
    hub_id="", licence="", parameters=175_488, languages=99, english_only=False, inner=64,
)  # fmt: skip


def table(sizes: Iterable[Size]) -> str:
    """The sizes as a table in Markdown, for docs/whisper.md."""
    rows = (
        f"| `{size.name}` | {size.width} | {size.heads} | {size.encoder_layers} "
        f"| {size.decoder_layers} | {size.mel_bins} | {size.vocabulary:,} | {size.parameters:,} "
        f"| {'English' if size.english_only else size.languages} "
        f"| {size.hub_id} ({size.licence}) |"
        for size in sizes
    )
    head = (
        "| model | width | heads | encoder layers | decoder layers | mel bins | vocabulary "
        "| parameters | languages | weights |"
    )
    return "\n".join([head, "|---" * 10 + "|", *rows])
