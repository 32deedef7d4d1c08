from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from jetlift.runtime.pictures import UnreadablePictureError, decode_picture, read_picture

FORMATS = [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"]
CV2_MAJOR, CV2_MINOR = (int(piece) for piece in cv2.__version__.split(".")[:2])
# OpenCV 4.8 writes about these to stderr past its own log.
LOUD = {".bmp", ".ppm"} if (CV2_MAJOR, CV2_MINOR) < (4, 12) else set()


def drawn(width: int = 120, height: int = 80) -> np.ndarray:
    image = np.full((height, width, 3), 200, np.uint8)
    cv2.rectangle(image, (0, 0), (width // 2, height // 2), (255, 40, 30), -1)
    cv2.circle(image, (width * 2 // 3, height // 2), height // 4, (30, 60, 220), -1)
    noise = np.random.default_rng(0).integers(0, 20, image.shape, np.uint8)
    return image - noise


def encoded(suffix: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_whole_picture_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(encoded(suffix, drawn()))
    image = read_picture(path)
    assert image.shape == (80, 120, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - drawn()).mean() < 12


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_picture_is_refused(suffix: str, kept: float) -> None:
    content = encoded(suffix, drawn())
    with pytest.raises(UnreadablePictureError):
        decode_picture(content[: int(len(content) * kept)])


def test_every_cut_of_a_jpeg_is_refused() -> None:
    for options in ((), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)):
        content = encoded(".jpg", drawn(40, 30), *options)
        assert decode_picture(content).shape == (30, 40, 3)
        for length in range(len(content)):
            with pytest.raises(UnreadablePictureError):
                decode_picture(content[:length])


def test_a_thumbnails_end_is_not_the_pictures() -> None:
    # A cut in the picture's own scan, while the thumbnail in the metadata is whole.
    content = encoded(".jpg", drawn())
    thumbnail = encoded(".jpg", drawn(16, 12))
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = content[:2] + segment + content[2:]
    assert decode_picture(with_thumbnail).shape == (80, 120, 3)
    with pytest.raises(UnreadablePictureError, match="without its end"):
        decode_picture(with_thumbnail[:-200])


def test_what_phones_append_to_a_jpeg_is_no_harm() -> None:
    content = encoded(".jpg", drawn())
    for extra in (b"\0" * 100, b"trailer", encoded(".jpg", drawn(16, 12))):
        np.testing.assert_array_equal(decode_picture(content + extra), decode_picture(content))


def test_a_png_with_a_flipped_byte_is_refused() -> None:
    content = bytearray(encoded(".png", drawn()))
    content[len(content) // 2] ^= 1
    with pytest.raises(UnreadablePictureError, match="damaged chunk"):
        decode_picture(bytes(content))


def test_a_damaged_note_in_a_png_is_no_harm() -> None:
    content = encoded(".png", drawn())
    note = b"tEXt" + b"Comment\0hello"
    chunk = (len(note) - 4).to_bytes(4, "big") + note + (zlib.crc32(note) ^ 1).to_bytes(4, "big")
    np.testing.assert_array_equal(decode_picture(content[:33] + chunk + content[33:]), drawn())


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadablePictureError):
        decode_picture(content)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_sixteen_bits_keep_their_upper_eight(suffix: str) -> None:
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    image = decode_picture(encoded(suffix, np.dstack([deep, deep[::-1], deep.T])))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.dstack([deep, deep[::-1], deep.T]) >> 8)


def test_grey_is_repeated_and_alpha_dropped() -> None:
    grey = decode_picture(encoded(".png", drawn()[..., 0]))
    np.testing.assert_array_equal(grey, np.dstack([drawn()[..., 0]] * 3))
    clear = np.dstack([drawn(), np.zeros((80, 120), np.uint8)])
    np.testing.assert_array_equal(decode_picture(encoded(".png", clear)), drawn())


@pytest.mark.parametrize("suffix", [".tif", ".hdr"])
def test_floating_point_is_refused(suffix: str) -> None:
    values = np.linspace(0, 1, 16 * 48, dtype=np.float32).reshape(16, 16, 3)
    with pytest.raises(UnreadablePictureError, match=r"float32|not a whole picture"):
        decode_picture(encoded(suffix, values))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_orientation_is_applied(orientation: int, kind: str, tmp_path: Path) -> None:
    if kind == "webp" and CV2_MAJOR < 5:
        pytest.skip("OpenCV applies a WebP's orientation from version 5 on")
    pil = pytest.importorskip("PIL.Image")
    ops = pytest.importorskip("PIL.ImageOps")
    picture = pil.fromarray(np.ascontiguousarray(drawn(60, 40)[..., ::-1]))
    exif = pil.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"picture.{kind}"
    picture.save(path, exif=exif, **({"quality": 95} if kind == "jpeg" else {}))
    with pil.open(path) as stored:
        upright = np.asarray(ops.exif_transpose(stored).convert("RGB"))[..., ::-1]
    image = read_picture(path)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < 12


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePictureError, match="No such file"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(UnreadablePictureError, match="directory"):
        read_picture(tmp_path)


def test_opencv_and_its_libraries_stay_silent(tmp_path: Path) -> None:
    quiet = [suffix for suffix in FORMATS if suffix not in LOUD]
    for suffix in quiet:
        content = encoded(suffix, drawn())
        (tmp_path / f"cut{suffix}").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.tif").write_text("II*\0 not a picture")
    program = (
        "import sys; from pathlib import Path\n"
        "from jetlift.runtime.pictures import UnreadablePictureError, read_picture\n"
        "for path in Path(sys.argv[1]).iterdir():\n"
        "    try: read_picture(path); print('read', path)\n"
        "    except UnreadablePictureError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )
    assert done.stdout.split() == ["refused"] * (len(quiet) + 1)
    assert done.stderr == ""
