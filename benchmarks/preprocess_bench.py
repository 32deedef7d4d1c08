"""How long a picture takes from BGR bytes to DINOv2's float input, beside plain OpenCV and Pillow.

    python benchmarks/preprocess_bench.py [--runs 15]

Columns, in milliseconds, medians of interleaved runs:
    jetlift   prepare_image: Pillow's bicubic bit for bit, only the crop computed
    pillow    the same resize by Pillow itself, whole picture, then crop and normalise
    area      cv2.resize INTER_AREA, then crop and normalise: other numbers than the model's own
    cubic     cv2.resize INTER_CUBIC without antialiasing: other numbers still, for scale
`off by` is the largest difference of each OpenCV column from Pillow's bytes, in levels of 255.
Exit code 1 where jetlift differs from Pillow in one byte or is slower than it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from jetlift.export.recipes.dinov2 import PREPROCESS
from jetlift.runtime.preprocess import PixelPlacement, place, prepare_image, resized_pixels
from jetlift.runtime.resample import resample

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Picture = npt.NDArray[Any]

SIZES_WH = {"640x480": (640, 480), "1080p": (1920, 1080), "4K": (3840, 2160)}
MEAN = np.array(PREPROCESS.mean, np.float32)
STD = np.array(PREPROCESS.std, np.float32)


def natural_like(size_wh: tuple[int, int]) -> Picture:
    """A picture with detail at every scale, drawn with a fixed seed: uint8 [H, W, 3], BGR."""
    random = np.random.default_rng(0)
    picture = np.zeros((size_wh[1], size_wh[0], 3), np.float32)
    for step in (1, 4, 16, 64):
        shape = (size_wh[1] // step + 1, size_wh[0] // step + 1, 3)
        noise = random.standard_normal(shape).astype(np.float32)
        picture += cv2.resize(noise, size_wh, interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(picture * 32 + 128, 0, 255), np.uint8)


def cropped(resized: Picture, placement: PixelPlacement) -> Picture:
    """The centre crop of a resized [H, W, 3] picture."""
    left, top, width, height = placement.crop_xywh
    return resized[top : top + height, left : left + width]


def finished(crop_bgr: Picture) -> Picture:
    """Plain normalisation in numpy: float32 [1, 3, H, W]."""
    scaled = crop_bgr[..., ::-1].astype(np.float32) / 255
    return np.ascontiguousarray(((scaled - MEAN) / STD).transpose(2, 0, 1)[None])


def resizers(picture: Picture, placement: PixelPlacement) -> dict[str, Callable[[], Picture]]:
    """Ways to the cropped 8-bit picture [H, W, 3] in BGR, by column."""
    try:
        from PIL import Image
    except ImportError:
        sys.exit("Pillow is needed to compare with: pip install pillow")

    def by_pillow() -> Picture:
        whole = Image.fromarray(picture).resize(placement.resized_wh, Image.Resampling.BICUBIC)
        return cropped(np.asarray(whole), placement)

    def by_opencv(filter_number: int) -> Callable[[], Picture]:
        return lambda: cropped(
            cv2.resize(picture, placement.resized_wh, interpolation=filter_number), placement
        )

    return {
        "pillow": by_pillow,
        "area": by_opencv(cv2.INTER_AREA),
        "cubic": by_opencv(cv2.INTER_CUBIC),
    }


def timed_ms(call: Callable[[], object]) -> float:
    """Wall time of one call in milliseconds."""
    start_s = time.perf_counter()
    call()
    return (time.perf_counter() - start_s) * 1e3


def bench(name: str, size_wh: tuple[int, int], runs: int) -> bool:
    """Print one size's row; True where jetlift equals Pillow and is no slower."""
    picture = natural_like(size_wh)
    placement = place(size_wh, PREPROCESS)
    ways = resizers(picture, placement)
    calls: dict[str, Callable[[], object]] = {"jetlift": lambda: prepare_image(picture, PREPROCESS)}
    for way, resize in ways.items():
        calls[way] = lambda resize=resize: finished(resize())  # type: ignore[misc]
    samples: dict[str, list[float]] = {way: [] for way in calls}
    for _ in range(runs):
        for way, call in calls.items():
            samples[way].append(timed_ms(call))
    medians = {way: statistics.median(values) for way, values in samples.items()}
    exact = ways["pillow"]().astype(int)
    ours = resized_pixels(picture, PREPROCESS)[::-1].transpose(1, 2, 0)
    equal = bool((ours == exact).all())
    off_by = ", ".join(f"{way} {np.abs(ways[way]() - exact).max()}" for way in ("area", "cubic"))
    figures = "  ".join(f"{way} {value:7.1f}" for way, value in medians.items())
    print(f"{name:8} {figures}   {'equal' if equal else 'DIFFERS'}, off by: {off_by}")
    return equal and medians["jetlift"] <= medians["pillow"]


def main() -> int:
    """Print every size's row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    resample(natural_like((64, 64)), (8, 8), "bicubic")  # imports and BLAS are warm from here on
    passed = [bench(name, size_wh, runs) for name, size_wh in SIZES_WH.items()]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
