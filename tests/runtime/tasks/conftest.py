"""A tiny real bundle on a real engine, and a folder of good pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import pytest
from helpers.textures import texture
from helpers.tiny_bundle import tiny_bundle

from jetlift.runtime.session import open_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def session(bundle: Bundle) -> Iterator[Session]:
    pytest.importorskip("onnxruntime")
    with open_session(bundle, "image", "fp32", target="cpu-onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def good_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures of 72 x 60 pixels."""
    folder = tmp_path_factory.mktemp("good")
    for number in range(24):
        cv2.imwrite(str(folder / f"good{number}.png"), texture(number))
    return folder
