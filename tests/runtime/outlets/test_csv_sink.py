"""Tables: their columns, their boxes, and that any text survives."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
from typing import TYPE_CHECKING

import pytest
from helpers.outlet_results import boxes, result
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import StorageError
from jetlift.runtime.outlets.csv_sink import BOX_COLUMNS, csv_row, csv_sink
from jetlift.runtime.outlets.parts import Rotation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def no_file_over_16_kib() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_per_result_in_the_columns_of_the_first(tmp_path: Path) -> None:
    with csv_sink(tmp_path / "out.csv") as sink:
        sink.write(result(0, labels=["cat", 'a "big", one'], score=0.5, anomalous=True, none=None))
        live = (tmp_path / "out.csv.partial").read_bytes()
        assert live.startswith(b"source,index,time_s,labels,score,anomalous,none\r\n")
        assert live.count(b"\r\n") == 2
        sink.write(result(1, labels=[], score=1e-7, anomalous=False))
    rows = table(tmp_path / "out.csv")
    assert names(tmp_path) == ["out.csv"]
    assert json.loads(rows[0]["labels"]) == ["cat", 'a "big", one']
    assert [row["score"] for row in rows] == ["0.5", "1e-07"]
    assert [row["anomalous"] for row in rows] == ["true", "false"]
    assert [row["none"] for row in rows] == ["", ""]
    assert [row["time_s"] for row in rows] == ["0.0", "0.04"]
    assert sink.health().written == 2


def test_boxes_have_a_second_file_with_a_row_each(tmp_path: Path) -> None:
    with csv_sink(tmp_path / "out.csv") as sink:
        sink.write(boxes(0, "dog", "cat"))
        sink.write(boxes(1))
        sink.write(boxes(2, "dog"))
    assert [row["index"] for row in table(tmp_path / "out.csv")] == ["0", "1", "2"]
    found = table(tmp_path / "out.boxes.csv")
    assert tuple(found[0]) == BOX_COLUMNS
    assert [(row["index"], row["box"], row["label"]) for row in found] == [
        ("0", "0", "dog"), ("0", "1", "cat"), ("2", "0", "dog"),
    ]  # fmt: skip
    assert found[1]["left"] == "2.5"
    assert float(found[1]["score"]) == pytest.approx(0.8)


def test_boxes_without_words_have_empty_cells(tmp_path: Path) -> None:
    with csv_sink(tmp_path / "out.csv") as sink:
        sink.write(result(0, boxes_xyxy=[[1, 2, 3, 4]]))
    (row,) = table(tmp_path / "out.boxes.csv")
    assert (row["label"], row["score"], row["bottom"]) == ("", "", "4")


def test_another_column_begins_another_part_and_a_missing_one_does_not(tmp_path: Path) -> None:
    with csv_sink(tmp_path / "out.csv") as sink:
        sink.write(result(0, a=1, b=2))
        sink.write(result(1, a=1))
        sink.write(result(2, a=1, c=3))
    assert names(tmp_path) == ["out-000002.csv", "out.csv"]
    assert [row["b"] for row in table(tmp_path / "out.csv")] == ["2", ""]
    assert table(tmp_path / "out-000002.csv")[0]["c"] == "3"


def test_parts_and_their_boxes_go_together(tmp_path: Path) -> None:
    with csv_sink(tmp_path / "out.csv", rotation=Rotation(keep_bytes=4000)) as sink:
        for index in range(40):
            sink.write(boxes(index, "dog", "cat"))
        sizes = [path.stat().st_size for path in tmp_path.iterdir()]
        assert sum(sizes) < 4000 + 400
    stems = {name.split(".")[0] for name in names(tmp_path)}
    assert len(names(tmp_path)) in (2 * len(stems), 2 * len(stems) - 1)
    assert sink.removed > 4


def test_an_error_leaves_both_files_under_their_partial_names(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), csv_sink(tmp_path / "out.csv") as sink:
        sink.write(boxes(0, "dog"))
        raise KeyboardInterrupt
    assert names(tmp_path) == ["out.boxes.csv.partial", "out.csv.partial"]


def test_a_name_that_is_not_utf8_leaves_the_table_readable(tmp_path: Path) -> None:
    with csv_sink(tmp_path / "out.csv") as sink:
        sink.write(result(0, source=os.fsdecode(b"Gr\xfc\xdfe.png")))
    assert table(tmp_path / "out.csv")[0]["source"] == r"Gr\udcfc\udcdfe.png"


@pytest.mark.usefixtures("no_file_over_16_kib")
def test_a_full_disk_is_told_with_the_name_of_the_sink(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"Sink csv: Writing .*out\.csv\.partial failed: File"),
        csv_sink(tmp_path / "out.csv") as sink,
    ):
        for index in range(10_000):
            sink.write(result(index, text="x" * 100))
    assert names(tmp_path) == ["out.csv.partial"]


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)


@given(st.lists(TEXTS, min_size=1))
def test_any_texts_come_back_from_a_row(texts: list[str]) -> None:
    rows = list(csv.reader(io.StringIO(csv_row(texts) * 2, newline="")))
    assert rows == [texts, texts]


@given(VALUES)
def test_any_value_comes_back_from_a_cell(value: object) -> None:
    ((cell, _),) = csv.reader(io.StringIO(csv_row([value, "end"]), newline=""))
    assert (None if cell == "" else json.loads(cell)) == value
