"""Sizes of Detic: facts that its published configurations state."""

from __future__ import annotations

from dataclasses import dataclass

from jetlift.export.recipes import clip


@dataclass(frozen=True)
class ResNetSize:
    """Channels of the stem, blocks per stage, and classes of the classifier it was trained with.

    The classifier is in the checkpoint and does nothing there.
    """

    width: int
    blocks: tuple[int, ...]
    unused_classes: int


@dataclass(frozen=True)
class SwinSize:
    """Channels of the first stage, blocks and heads per stage, side of a window in tokens."""

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int


@dataclass(frozen=True)
class Size:
    """One size of Detic.

    Attributes:
        backbone: What sees.
        words: Whose text encoder reads.
        size_wh: Size of the input in pixels, multiples of 32.
        channels: Of each level of the pyramid, a multiple of 32.
        hidden: Width of the box heads.
        regions: Most proposals.
        prompts: Most words.
        masks: Most masks per run.
    """

    backbone: ResNetSize | SwinSize
    words: clip.Size
    size_wh: tuple[int, int]
    channels: int = 256
    hidden: int = 1024
    regions: int = 256
    prompts: int = 1203
    masks: int = 64

    @property
    def cells(self) -> int:
        """Cells of all five levels."""
        return sum(columns * rows for columns, rows in self.grids)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Columns and rows of each level; the two coarsest halve the one before, rounded up."""
        columns, rows = (side // 8 for side in self.size_wh)
        found = []
        for _ in range(5):
            found.append((columns, rows))
            columns, rows = -(-columns // 2), -(-rows // 2)
        return found


# The original scales the shorter edge to 800 and the longer to 1333 at most. This box holds a
# camera's 16:9 at 1344x756 and 4:3 at 1024x768.
SIZE_WH = (1344, 768)
R50 = Size(ResNetSize(64, (3, 4, 6, 3), 11_221), clip.B32, SIZE_WH)
SWIN_B = Size(SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32), 7), clip.B32, SIZE_WH)
# For tests: no published weights have these.
TINY_R50 = Size(
    ResNetSize(8, (1, 2, 1, 1), 5), clip.TINY, (192, 160),
    channels=32, hidden=48, regions=24, prompts=7, masks=4,
)  # fmt: skip
TINY_SWIN = Size(
    SwinSize(8, (2, 2, 2, 2), (1, 2, 2, 4), 3), clip.TINY, (192, 160),
    channels=32, hidden=48, regions=24, prompts=7, masks=4,
)  # fmt: skip
