from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from helpers.search_index import index_around
from helpers.textures import texture
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import ArtefactError, InputError, UsageError
from jetlift.runtime.manifest import TensorSpec
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.sources import Frame, open_source
from jetlift.runtime.tasks import open_task
from jetlift.runtime.tasks.search import Index, build_index, normalised
from jetlift.runtime.tasks.search_exact import unit_rows

if TYPE_CHECKING:
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session

COLOURS = {"red": (20, 20, 230), "green": (20, 230, 20), "blue": (230, 20, 20)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shades of each colour."""
    folder = tmp_path_factory.mktemp("colours")
    for name, colour in COLOURS.items():
        for shade in range(3):
            image = np.full((40, 50, 3), colour, np.float64) * (1 - shade / 10)
            cv2.imwrite(str(folder / f"{name}{shade}.png"), image.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def index(bundle: Bundle, session: Session, folder: Path) -> Index:
    with open_source([str(folder)]) as source:
        return build_index(bundle, session, source, precision="fp32", target="cpu-onnxruntime")


def query(folder: Path, name: str) -> Frame:
    (frame,) = open_source([str(folder / name)])
    return frame


@pytest.mark.parametrize("name", list(COLOURS))
def test_a_picture_finds_itself_first_and_its_like_next(
    bundle: Bundle, session: Session, index: Index, folder: Path, name: str
) -> None:
    task = open_task("search", bundle, session, precision="fp32", index=index, count=3)
    result = task.run(query(folder, f"{name}1.png"))
    found = [Path(hit["source"]).name for hit in result["hits"]]
    assert found[0] == f"{name}1.png"
    assert {item[:-5] for item in found} == {name}
    scores = [hit["score"] for hit in result["hits"]]
    assert scores[0] == pytest.approx(1.0, abs=1e-6)
    assert scores == sorted(scores, reverse=True)
    assert json.loads(json.dumps(result)) == result


def test_vectors_have_length_one_and_scores_are_cosines(index: Index) -> None:
    np.testing.assert_allclose(
        np.linalg.norm(unit_rows(index.tables.vectors), axis=1), 1, atol=1e-6
    )
    random = np.random.default_rng(0).standard_normal(8).astype(np.float32)
    probe = random / np.linalg.norm(random)
    for hit in index.nearest(probe, 9):
        row = unit_rows(index.tables.vectors)[list(index.entries).index(hit.entry)].astype(
            np.float64
        )
        assert hit.score == pytest.approx(float(row @ probe), abs=1e-6)


@given(st.integers(1, 30))
def test_as_many_hits_as_there_are(count: int) -> None:
    vectors = np.repeat(np.eye(3, 4, dtype=np.float32), 3, axis=0)
    hits = index_around(vectors).nearest(vectors[3], count)
    assert [hit.entry.index for hit in hits] == [3, 4, 5, 0, 1, 2, 6, 7, 8][:count]


def test_an_index_works_from_any_folder(
    bundle: Bundle, session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    with open_source([folder.name]) as source:
        index = build_index(bundle, session, source, precision="fp32", target="cpu-onnxruntime")
    assert {Path(entry.source).parent for entry in index.entries} == {folder.resolve()}


def test_unreadable_pictures_are_counted(bundle: Bundle, session: Session, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), texture(0))
    (tmp_path / "b.png").write_bytes(b"none")
    done: list[int] = []
    with open_source([str(tmp_path)]) as source:
        index = build_index(
            bundle, session, source, precision="fp32", target="cpu", progress=done.append
        )
    assert (len(index), index.head.skipped, done) == (1, 1, [1])


def test_the_contact_sheet_shows_the_query_and_the_hits(
    bundle: Bundle, session: Session, index: Index, folder: Path
) -> None:
    task = open_task("search", bundle, session, precision="fp32", index=index, count=2)
    item = query(folder, "red0.png")
    sheet = task.draw(item, task.process(item))
    assert sheet is not None
    reds = (sheet.astype(int)[..., 2] > 150) & (sheet.astype(int)[..., 1] < 60)
    columns = np.nonzero(reds.sum(axis=0) > 50)[0]
    assert columns.min() < 60  # the query at the left
    assert columns.max() > 500  # and the last hit at the right


def test_a_hit_that_is_gone_leaves_its_field(
    bundle: Bundle, session: Session, tmp_path: Path
) -> None:
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), texture(number))
    with open_source([str(tmp_path)]) as source:
        index = build_index(bundle, session, source, precision="fp32", target="cpu")
    item = query(tmp_path, "0.png")
    (tmp_path / "1.png").unlink()
    (tmp_path / "0.png").write_bytes(b"spoilt since")
    task = open_task("search", bundle, session, precision="fp32", index=index)
    sheet = task.draw(item, task.process(item))
    assert sheet is not None


def test_frames_of_a_video_are_found_with_their_times(
    bundle: Bundle, session: Session, tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for colour in COLOURS.values():
        writer.write(np.full((48, 64, 3), colour, np.uint8))
    writer.release()
    with open_source([str(path)]) as source:
        index = build_index(bundle, session, source, precision="fp32", target="cpu")
        (_, second, _) = list(source)
    task = open_task("search", bundle, session, precision="fp32", index=index, count=1)
    outcome = task.process(second)
    assert outcome.fields["hits"][0]["index"] == 1
    assert outcome.fields["hits"][0]["time_s"] == pytest.approx(0.1)
    assert task.draw(second, outcome) is not None


def test_an_index_of_another_precision_or_bundle_is_refused(
    bundle: Bundle, session: Session, index: Index, tmp_path: Path
) -> None:
    from helpers.tiny_bundle import tiny_bundle

    with pytest.raises(ArtefactError, match="at fp32"):
        open_task("search", bundle, session, precision="int8", index=index)
    other = tiny_bundle(tmp_path / "other", precisions=("fp32",))
    with pytest.raises(ArtefactError, match="another bundle"):
        open_task("search", other, session, precision="fp32", index=index)


def test_an_embedding_without_direction_is_refused(bundle: Bundle, folder: Path) -> None:
    part = bundle.part("image")[1]
    zero = FakeSession(
        part.inputs,
        part.outputs,
        lambda _: {
            "embedding": np.zeros((1, 8), np.float32),
            "patch_tokens": np.zeros((1, 16, 8), np.float32),
        },
    )
    with open_source([str(folder)]) as source, pytest.raises(InputError, match="all zero"):
        build_index(bundle, zero, source, precision="fp32", target="cpu")


def test_nothing_makes_no_index(bundle: Bundle, session: Session) -> None:
    with pytest.raises(InputError, match="nothing to index"):
        build_index(bundle, session, [], precision="fp32", target="cpu")


def test_no_hits_cannot_be_asked_for(bundle: Bundle, session: Session, index: Index) -> None:
    with pytest.raises(UsageError, match="count of 0"):
        open_task("search", bundle, session, precision="fp32", index=index, count=0)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20))
def test_normalised_vectors_have_length_one(values: list[float]) -> None:
    vector = np.array(values, np.float32)
    item = Frame("a", 0, 0.0, texture(0))
    if not vector.any():
        with pytest.raises(InputError):
            normalised(vector, item)
    else:
        assert np.linalg.norm(normalised(vector, item)) == pytest.approx(1, abs=1e-5)


def test_a_session_of_another_part_is_refused(bundle: Bundle, index: Index) -> None:
    wrong = FakeSession((TensorSpec("x", "float32", ("batch", 16)),), (), lambda _: {})
    with pytest.raises(UsageError, match="A session of part image"):
        open_task("search", bundle, wrong, precision="fp32", index=index)
