from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.textures import texture

from jetlift.runtime.errors import EngineLibraryError, UnknownNameError, UsageError
from jetlift.runtime.preprocess import prepare_image
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.sources import Frame, TextItem
from jetlift.runtime.tasks import open_task
from jetlift.runtime.tasks.base import short_floats

if TYPE_CHECKING:
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session

FRAME = Frame("film.mp4", 3, 0.3, texture(0))


def test_the_embedding_is_what_the_graph_gives(bundle: Bundle, session: Session) -> None:
    task = open_task("embed", bundle, session, precision="fp32")
    outcome = task.process(FRAME)
    spec = bundle.part("image")[1].preprocess
    direct = session.run({"pixel_values": prepare_image(FRAME.image_bgr, spec)})  # type: ignore[arg-type]
    np.testing.assert_array_equal(outcome.arrays["embedding"], direct["embedding"][0])
    fields = json.loads(json.dumps(outcome.fields))
    assert list(fields) == ["source", "index", "time_s", "embedding"]
    assert (fields["source"], fields["index"], fields["time_s"]) == ("film.mp4", 3, 0.3)
    np.testing.assert_array_equal(np.float32(fields["embedding"]), direct["embedding"][0])
    assert task.run(FRAME) == outcome.fields
    assert task.draw(FRAME, outcome) is None


def test_patch_tokens_are_kept_only_where_asked(bundle: Bundle, session: Session) -> None:
    plain = open_task("embed", bundle, session, precision="fp32").process(FRAME)
    assert set(plain.arrays) == {"embedding"}
    full = open_task("embed", bundle, session, precision="fp32", patch_tokens=True).process(FRAME)
    assert full.arrays["patch_tokens"].shape == (16, 8)
    assert full.fields == plain.fields


def test_numbers_are_as_short_as_they_can_be_and_come_back() -> None:
    values = np.array([0.1, 1 / 3, -2e-30, 3e30, 0, 7], np.float32)
    texts = json.dumps(short_floats(values))
    assert texts == "[0.1, 0.33333334, -2e-30, 3e+30, 0.0, 7.0]"
    np.testing.assert_array_equal(np.array(json.loads(texts), np.float32), values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_no_result(bundle: Bundle, value: float) -> None:
    part = bundle.part("image")[1]
    embedding = np.zeros((1, 8), np.float32)
    embedding[0, 5] = value
    broken = FakeSession(
        part.inputs,
        part.outputs,
        lambda _: {"embedding": embedding, "patch_tokens": np.zeros((1, 16, 8), np.float32)},
    )
    task = open_task("embed", bundle, broken, precision="fp32")
    with pytest.raises(EngineLibraryError, match=r"embedding holds NaN or infinity for film\.mp4"):
        task.run(FRAME)


def test_a_text_is_refused_by_a_part_for_pictures(bundle: Bundle, session: Session) -> None:
    task = open_task("embed", bundle, session, precision="fp32")
    with pytest.raises(UsageError, match="takes pictures"):
        task.run(TextItem("a.txt", 0, "hello"))


def test_unknown_names_are_refused(bundle: Bundle, session: Session) -> None:
    with pytest.raises(UnknownNameError, match="One of embed, search, anomaly"):
        open_task("detect", bundle, session, precision="fp32")
    with pytest.raises(UnknownNameError, match="One of mlp, image"):
        open_task("embed", bundle, session, precision="fp32", part="audio")
    with pytest.raises(UsageError, match="no preprocessing"):
        open_task("embed", bundle, session, precision="fp32", part="mlp")
    with pytest.raises(UsageError, match="got index"):
        open_task("embed", bundle, session, precision="fp32", index="x")
    with pytest.raises(UsageError, match="without its index"):
        open_task("search", bundle, session, precision="fp32")
    with pytest.raises(UsageError, match="jetlift fit BUNDLE GOOD_DIR"):
        open_task("anomaly", bundle, session, precision="fp32")
