"""From an input to its embedding, through the bundle's own preprocessing.

An output called `embedding` [1, D] makes a part an encoder; patch tokens, where there are any, are
its output `patch_tokens` [1, rows * columns, D] on the grid that the manifest states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.errors import EngineLibraryError, UnknownNameError, UsageError
from jetlift.runtime.frames import PictureInput
from jetlift.runtime.manifest import ImagePreprocess, TextPreprocess
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks.base import Prepared
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.manifest import Part
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item
    from jetlift.runtime.text import TextPreparer

    Floats = npt.NDArray[np.float32]

EMBEDDING, PATCH_TOKENS = "embedding", "patch_tokens"


@dataclass(frozen=True, eq=False)
class Encoding:
    """What an encoder says of one input.

    Attributes:
        embedding: float32 [D], as the graph returns it.
        patch_tokens: float32 [patches, D] row by row, or None where the part has none.
        tokens: Number of text tokens, None for a picture.
        truncated: Whether the text was cut, None for a picture.
    """

    embedding: Floats
    patch_tokens: Floats | None
    tokens: int | None = None
    truncated: bool | None = None


class Encoder:
    """A bundle's encoder part on an open session.

    Args:
        bundle: A verified bundle.
        session: An engine of the part.
        part: Its name; may be left out where only one part is an encoder.
        patches: Whether the task needs patch tokens.

    Raises:
        UnknownNameError: No such part, or none or several that could be meant.
        UsageError: The part is no encoder, or the session is of another part.
        MissingPackageError: The part takes text and `tokenizers` is not installed.
    """

    def __init__(
        self, bundle: Bundle, session: Session, part: str | None = None, *, patches: bool = False
    ) -> None:
        self.part_name = part or _only_encoder(bundle, patches=patches)
        self.part = bundle.part(self.part_name)[1]
        self._session = session
        _check_encoder(self.part_name, self.part, patches=patches)
        _check_session(self.part_name, self.part, session)
        self._text: TextPreparer | None = None
        self._pictures: PictureInput | None = None
        if isinstance(self.part.preprocess, ImagePreprocess):
            self._pictures = PictureInput(self.part.preprocess)
        if isinstance(self.part.preprocess, TextPreprocess):
            from jetlift.runtime.text import TextPreparer

            spec = self.part.preprocess
            self._text = TextPreparer(spec, bundle.path(spec.tokenizer))

    @property
    def takes_text(self) -> bool:
        """Whether the part takes texts rather than pictures."""
        return self._text is not None

    @property
    def image_spec(self) -> ImagePreprocess:
        """How pictures are prepared.

        Raises:
            UsageError: The part takes texts.
        """
        if not isinstance(self.part.preprocess, ImagePreprocess):
            raise UsageError(f"Part {self.part_name} takes texts", expected="A part for pictures")
        return self.part.preprocess

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the inputs so far."""
        return () if self._pictures is None else self._pictures.notes

    @property
    def engine(self) -> Session:
        """The session of the part."""
        return self._session

    def encode(self, item: Item) -> Encoding:
        """Encode one input.

        Raises:
            UsageError: The input is a text and the part takes pictures, or the other way round.
            InputError: The input cannot be used.
            EngineLibraryError: The engine failed or returned NaN or infinity.
        """
        prepared = self.prepare(item)
        return self.finish(item, prepared, self._session.run(prepared.feeds))

    def prepare(self, item: Item) -> Prepared:
        """What the part is fed for one input.

        Raises:
            UsageError: The input is a text and the part takes pictures, or the other way round.
            InputError: The input cannot be used.
        """
        if isinstance(item, Frame) and self._pictures is not None:
            return Prepared(self._pictures.feeds(item.image_bgr))
        if self._text is None or not isinstance(item, TextItem):
            wanted = "pictures" if self._text is None else "texts"
            raise UsageError(f"Part {self.part_name} takes {wanted}", expected="Such an input")
        text = self._text.prepare([item.text])
        return Prepared(text.feeds, text.tokens[0], text.truncated[0])

    def finish(
        self, item: Item, prepared: Prepared, outputs: Mapping[str, npt.NDArray[Any]]
    ) -> Encoding:
        """What the part's outputs say of an input.

        Raises:
            EngineLibraryError: They hold NaN or infinity.
        """
        embedding, patch_tokens = outputs[EMBEDDING][0], outputs.get(PATCH_TOKENS)
        patches = None if patch_tokens is None else patch_tokens[0]
        for name, array in ((EMBEDDING, embedding), (PATCH_TOKENS, patches)):
            if array is not None and not np.isfinite(array).all():
                raise EngineLibraryError(
                    f"Output {name} holds NaN or infinity for {item.source} ({item.index})",
                    expected="Finite numbers",
                    do="Try --precision fp32: where that is finite, this variant overflows",
                )
        return Encoding(embedding, patches, prepared.tokens, prepared.truncated)


def _only_encoder(bundle: Bundle, *, patches: bool) -> str:
    wanted = PATCH_TOKENS if patches else EMBEDDING
    names = [
        name
        for name, part in bundle.manifest.parts.items()
        if part.preprocess is not None and any(spec.name == wanted for spec in part.outputs)
    ]
    if len(names) == 1:
        return names[0]
    raise UnknownNameError(
        f"Bundle {bundle.manifest.model} has {len(names)} parts that give {wanted} for raw input",
        expected=f"A part named by the caller, one of {', '.join(names)}" if names else "One",
    )


def _check_encoder(name: str, part: Part, *, patches: bool) -> None:
    outputs = {spec.name for spec in part.outputs}
    if part.preprocess is None or EMBEDDING not in outputs:
        raise UsageError(
            f"Part {name} is no encoder: it has "
            + ("no preprocessing" if part.preprocess is None else "no output 'embedding'"),
            expected="A part with preprocessing and an output 'embedding'",
        )
    if patches and (PATCH_TOKENS not in outputs or part.patch_grid_hw is None):
        raise UsageError(
            f"Part {name} gives no patch tokens on a grid",
            expected="A vision transformer's part, such as dinov2-small's",
        )


def _check_session(name: str, part: Part, session: Session) -> None:
    wanted = {spec.name for spec in part.inputs}
    got = {spec.name for spec in session.inputs}
    if wanted != got:
        raise UsageError(
            f"The session takes {', '.join(sorted(got))}",
            expected=f"A session of part {name}, which takes {', '.join(sorted(wanted))}",
        )
