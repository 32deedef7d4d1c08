"""What a picture part is fed: prepared on the host, or whole where its graph prepares it itself.

Rules:
    V1  Where the preprocessing is in the graph, a picture of the frames' size is handed over as it
        is. Any other is first laid on a frame on the host, and a note says so, once.
    V2  It is laid so that the model sees of it what it would see without a frame: for crop,
        shortest edge on shortest edge and centred; stretched for stretch; for letterbox, whole at
        the top left. What is left of the frame is grey for letterbox, else the picture's edge
        repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from jetlift.runtime.preprocess import (
    Placement,
    check_picture,
    fit_inside,
    place,
    prepare_image,
)
from jetlift.runtime.resample import resample

if TYPE_CHECKING:
    import numpy.typing as npt

    from jetlift.runtime.manifest import FrameInput, ImagePreprocess

    Bytes = npt.NDArray[np.uint8]


class PictureInput:
    """Makes the feeds of a picture part, one picture at a time.

    Args:
        spec: The part's preprocessing.

    Attributes:
        notes: What the user should know of the pictures so far, each sentence once.
    """

    def __init__(self, spec: ImagePreprocess) -> None:
        self.spec = spec
        self.notes: tuple[str, ...] = ()

    def feeds(self, image_bgr: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """What the part's session takes for one picture, uint8 [H, W, 3] in BGR order.

        Raises:
            UsageError: The array is no 8-bit BGR picture.
            InputError: The picture is too long and thin to resize.
        """
        if self.spec.inside is None:
            return {self.spec.input: prepare_image(image_bgr, self.spec)}
        frame = lay(image_bgr, self.spec, _size(self.spec.inside))
        if frame is not image_bgr and not self.notes:
            self.notes = (_laid_note(image_bgr, self.spec.inside),)
        return {self.spec.input: frame[None]}

    def placement(self, image_wh: tuple[int, int]) -> Placement:
        """Where a picture of this size lies in the input of the part's own graph."""
        return placement_of(image_wh, self.spec)


def lay(image_bgr: npt.NDArray[Any], spec: ImagePreprocess, frame_wh: tuple[int, int]) -> Bytes:
    """Lay a picture on a frame (rule V2); one of the frame's size comes back as it is.

    Args:
        image_bgr: uint8 [H, W, 3].
        spec: The preprocessing that the frame will go through.
        frame_wh: Width and height of the frame in pixels.

    Returns:
        uint8 [frame height, frame width, 3].

    Raises:
        UsageError: The array is no 8-bit BGR picture.
    """
    check_picture(image_bgr)
    image_wh = (image_bgr.shape[1], image_bgr.shape[0])
    if image_wh == frame_wh:
        return image_bgr
    resized_wh, (left, top) = _laid(image_wh, spec, frame_wh)
    x, width = _overlap(resized_wh[0], frame_wh[0], left)
    y, height = _overlap(resized_wh[1], frame_wh[1], top)
    pixels = resample(image_bgr, resized_wh, "bilinear", region_xywh=(x, y, width, height))
    content = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    before = (max(0, top), max(0, left))
    below, right = frame_wh[1] - before[0] - height, frame_wh[0] - before[1] - width
    kind = cv2.BORDER_CONSTANT if spec.fit == "letterbox" else cv2.BORDER_REPLICATE
    grey = (spec.pad_value,) * 3
    framed = cv2.copyMakeBorder(content, before[0], below, before[1], right, kind, value=grey)
    return np.asarray(framed, np.uint8)


def placement_of(image_wh: tuple[int, int], spec: ImagePreprocess) -> Placement:
    """Where a picture of this size lies in the input of the part's own graph, frame or no frame.

    Raises:
        UsageError: The preprocessing contradicts itself.
    """
    if spec.inside is None or image_wh == _size(spec.inside):
        return place(image_wh, spec)
    frame_wh = _size(spec.inside)
    resized_wh, offset = _laid(image_wh, spec, frame_wh)
    onward = place(frame_wh, spec)
    across, down = (onward.resized_wh[axis] / frame_wh[axis] for axis in (0, 1))
    left, top, width, height = onward.crop_xywh
    both = (resized_wh[0] * across, resized_wh[1] * down)
    if spec.fit == "letterbox":  # what lies right of it and below is no part of the picture
        width, height = max(1, round(both[0])), max(1, round(both[1]))
    crop_xywh = (left - offset[0] * across, top - offset[1] * down, width, height)
    return Placement(image_wh, both, crop_xywh)


def _laid(
    image_wh: tuple[int, int], spec: ImagePreprocess, frame_wh: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size of a picture on a frame, and where its left and top edge lie there (rule V2)."""
    if spec.fit == "stretch":
        return frame_wh, (0, 0)
    if spec.fit == "letterbox":
        return fit_inside(image_wh, frame_wh), (0, 0)
    short, long, edge = min(image_wh), max(image_wh), min(frame_wh)
    longer = edge * long // short
    resized_wh = (edge, longer) if image_wh[0] <= image_wh[1] else (longer, edge)
    left, top = ((frame_wh[axis] - resized_wh[axis]) // 2 for axis in (0, 1))
    return resized_wh, (left, top)


def _overlap(size: int, frame: int, offset: int) -> tuple[int, int]:
    """First pixel of an axis of the laid picture that is on the frame, and how many are."""
    first = max(0, -offset)
    return first, min(size, frame - offset) - first


def _size(frames: FrameInput) -> tuple[int, int]:
    return (frames.size_wh[0], frames.size_wh[1])


def _laid_note(image_bgr: npt.NDArray[Any], frames: FrameInput) -> str:
    return (
        f"Pictures of another size than {frames.size_wh[0]}x{frames.size_wh[1]} (the first is "
        f"{image_bgr.shape[1]}x{image_bgr.shape[0]}) were laid on such frames on the CPU, since "
        "the graph takes no others; export with --frames of the camera's size to avoid it"
    )
