"""README's first command, short of the installation: every figure in its report is of this run."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from jetlift import demo_pictures
from jetlift.__main__ import run


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    assert run(["demo", "-o", str(out), "--time-limit-s", "0.5"]) == 0
    return out


def test_the_demo_ends_with_a_report_of_its_own_run(shown):
    record = json.loads((shown / "report" / "record.json").read_text())
    assert {result["variant"] for result in record["results"]} == {"fp32", "fp16", "int8"}
    assert record["model"] == "dinov2-small"
    assert "saliency" in record["weights"]["note"]
    page = (shown / "report" / "report.html").read_text()
    assert page.count("data:image/") == 3  # a contact sheet and two heat maps
    assert "http://" not in page.replace("http://www.w3.org/", "")  # self-contained


def test_search_finds_the_picture_itself_first_and_its_siblings_next(shown):
    lines = (shown / "search" / "results.jsonl").read_text().splitlines()
    assert len(lines) == len(demo_pictures.PHOTOGRAPHS)
    for line in map(json.loads, lines):
        assert line["hits"][0]["source"] == line["source"]
        photograph = line["source"].rpartition("-")[0]
        siblings = [hit for hit in line["hits"] if hit["source"].startswith(photograph)]
        assert len(siblings) >= 3


def test_anomaly_tells_drawn_defects_from_good_shots(shown):
    for line in map(json.loads, (shown / "anomaly" / "results.jsonl").read_text().splitlines()):
        assert line["anomalous"] == ("defect" in line["source"].rpartition("/")[2])


def test_an_existing_folder_is_refused(shown, capsys):
    assert run(["demo", "-o", str(shown)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_pictures_can_be_drawn_where_there_are_no_photographs(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_pictures, "_skimage_data", lambda: None)
    made = demo_pictures.make(tmp_path / "drawn")
    assert "not photographs" in made.origin
    scenes = [cv2.imread(str(path)) for path in sorted(made.scenes.iterdir())]
    assert len(scenes) == demo_pictures.DRAWN_SCENES * demo_pictures.CROPS_PER_PHOTOGRAPH
    assert {scene.shape for scene in scenes} == {(256, 256, 3)}
    again = demo_pictures.make(tmp_path / "again")
    for one, other in zip(made.test.iterdir(), again.test.iterdir(), strict=True):
        np.testing.assert_array_equal(cv2.imread(str(one)), cv2.imread(str(other)))
