from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.preprocess import place, prepare_batch, prepare_image, resized_pixels

DINO = ImagePreprocess(
    kind="image",
    input="pixel_values",
    size_wh=(224, 224),
    fit="crop",
    resize_short=256,
    resample="bicubic_antialias",
    colour="rgb",
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
PICTURES = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "immunohistochemistry")


def drawn(width: int, height: int) -> np.ndarray:
    """A gradient with circles, uint8 BGR."""
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    image = np.dstack([np.tile(ramp, (height, 1))] * 3)
    for step in range(3):
        centre = (width * (step + 1) // 4, height // 2)
        cv2.circle(image, centre, max(2, height // 5), (60 * step, 255 - 60 * step, 40), -1)
    return image


def test_real_pictures_equal_the_image_processor_of_transformers() -> None:
    data = pytest.importorskip("skimage.data")
    module = pytest.importorskip("transformers.models.bit.image_processing_pil_bit")
    image_module = pytest.importorskip("PIL.Image")
    processor = module.BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        resample=3,
        image_mean=list(DINO.mean),
        image_std=list(DINO.std),
    )
    for name in PICTURES:
        whole = getattr(data, name)()
        # Cuts with odd sides: floors and halves show there.
        for rgb in (whole, whole[:301, :333], whole[:97, :36], whole[:200].transpose(1, 0, 2)):
            picture = image_module.fromarray(np.ascontiguousarray(rgb))
            theirs = processor(picture, return_tensors="np")["pixel_values"]
            ours = prepare_image(rgb[..., ::-1], DINO)
            assert ours.dtype == theirs.dtype == np.float32
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name} {rgb.shape}")


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_sizes_and_crops_are_those_of_transformers(width: int, height: int) -> None:
    transforms = pytest.importorskip("transformers.image_transforms")
    stands_for_one = np.broadcast_to(np.zeros(1, np.uint8), (3, height, width))
    theirs = transforms.get_resize_output_image_size(
        stands_for_one, size=256, default_to_square=False, input_data_format="channels_first"
    )
    placement = place((width, height), DINO)
    assert placement.resized_wh == (theirs[1], theirs[0])
    left, top = placement.crop_xywh[:2]
    assert (top, left) == ((theirs[0] - 224) // 2, (theirs[1] - 224) // 2)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.sampled_from(["crop", "stretch", "letterbox"]),
)
def test_what_is_seen_lies_in_the_picture(width: int, height: int, fit: Any) -> None:
    placement = place((width, height), replace(DINO, fit=fit))
    left, top, right, bottom = placement.seen_xyxy
    assert 0 <= left < right <= width + 1e-6
    assert 0 <= top < bottom <= height + 1e-6
    if fit != "crop":
        assert (left, top, right, bottom) == pytest.approx((0, 0, width, height))


@pytest.mark.parametrize("resample", ["bicubic_antialias", "bilinear_antialias", "linear_exact"])
@pytest.mark.parametrize("fit", ["crop", "stretch", "letterbox"])
@pytest.mark.parametrize("image_wh", [(300, 200), (200, 300), (1, 1), (61, 500)])
def test_every_way_gives_the_size_asked(resample: Any, fit: Any, image_wh: tuple[int, int]) -> None:
    spec = replace(DINO, size_wh=(96, 64), resize_short=100, fit=fit, resample=resample)
    prepared = prepare_image(drawn(*image_wh), spec)
    assert prepared.shape == (1, 3, 64, 96)
    assert prepared.dtype == np.float32
    assert np.isfinite(prepared).all()


def test_linear_exact_is_opencvs() -> None:
    image = drawn(333, 201)
    spec = replace(DINO, size_wh=(64, 48), fit="stretch", resample="linear_exact", colour="bgr")
    expected = cv2.resize(image, (64, 48), interpolation=cv2.INTER_LINEAR_EXACT)
    np.testing.assert_array_equal(resized_pixels(image, spec), expected.transpose(2, 0, 1))
    crop = replace(spec, fit="crop", size_wh=(40, 40), resize_short=50)
    whole = cv2.resize(image, (82, 50), interpolation=cv2.INTER_LINEAR_EXACT)
    cut = whole[5:45, 21:61].transpose(2, 0, 1)
    np.testing.assert_array_equal(resized_pixels(image, crop), cut)


def test_letterbox_keeps_the_shape_at_the_top_left_and_pads_with_grey() -> None:
    spec = replace(DINO, size_wh=(64, 64), fit="letterbox", pad_value=114)
    pixels = resized_pixels(np.full((100, 300, 3), 7, np.uint8), spec)
    assert (pixels[:, :21] == 7).all()
    assert (pixels[:, 21:] == 114).all()
    assert place((300, 100), spec).resized_wh == (64, 21)
    assert place((100, 300), spec).resized_wh == (21, 64)
    assert place((9000, 1), spec).resized_wh == (64, 1)


def test_channels_come_in_the_models_order() -> None:
    blue = np.zeros((10, 10, 3), np.uint8)
    blue[..., 0] = 255
    plain = replace(
        DINO, size_wh=(4, 4), fit="stretch", scale=1.0, mean=(0.0, 0.0, 1.0), std=(1.0, 1.0, 2.0)
    )
    assert prepare_image(blue, plain)[0, :, 0, 0].tolist() == [0, 0, 127]
    assert prepare_image(blue, replace(plain, colour="bgr"))[0, :, 0, 0].tolist() == [255, 0, -0.5]


def test_a_batch_is_its_pictures_one_by_one() -> None:
    images = [drawn(300, 200), drawn(64, 99), drawn(5, 5)]
    batch = prepare_batch(images, DINO)
    assert batch.shape == (3, 3, 224, 224)
    for row, image in zip(batch, images, strict=True):
        np.testing.assert_array_equal(row, prepare_image(image, DINO)[0])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
    ],
)
def test_what_is_no_8_bit_bgr_picture_is_refused(image: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"Got a picture"):
        prepare_image(image, DINO)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="no pictures"):
        prepare_batch([], DINO)


@pytest.mark.parametrize("resize_short", [None, 223])
def test_a_crop_that_does_not_fit_is_refused(resize_short: int | None) -> None:
    with pytest.raises(UsageError, match="224x224 out of a shortest edge"):
        prepare_image(drawn(10, 10), replace(DINO, resize_short=resize_short))


def test_a_picture_too_thin_for_linear_exact_is_refused_and_fine_for_pillows_filters() -> None:
    thin = np.zeros((1, 20_000, 3), np.uint8)
    with pytest.raises(InputError, match="5120000x256"):
        prepare_image(thin, replace(DINO, resample="linear_exact"))
    assert prepare_image(thin, DINO).shape == (1, 3, 224, 224)
