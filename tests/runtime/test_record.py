from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest

from jetlift.runtime import jsonform
from jetlift.runtime.errors import ArtefactError, InputError, UsageError
from jetlift.runtime.probe import FakeProbe, Reading
from jetlift.runtime.record import Figure, Record, read_record, write_record

GOLDEN = Path(__file__).parent / "golden" / "record.json"


def test_a_figure_has_a_value_or_a_reason() -> None:
    assert Figure(0).value == 0
    assert Figure.missing("no sensor") == Figure(None, "no sensor")
    with pytest.raises(ValueError, match="either a value or a reason"):
        Figure(None)
    with pytest.raises(ValueError, match="either a value or a reason"):
        Figure(1.5, "but why")


def test_what_was_not_measured_is_null_with_its_reason() -> None:
    result = json.loads(GOLDEN.read_text())["results"][0]
    assert result["power_w"]["value"] is None
    assert result["power_w"]["reason"]


def test_bytes_are_written_whole() -> None:
    assert jsonform.to_data(Figure(93_061_120)) == {"value": 93_061_120}
    assert jsonform.read(Figure, {"value": 1}).value == 1


def test_the_golden_record_is_read_and_written_unchanged(tmp_path: Path) -> None:
    record = read_record(GOLDEN)
    write_record(record, tmp_path / "record.json")
    assert (tmp_path / "record.json").read_text() == GOLDEN.read_text()


def test_the_golden_record_obeys_the_schema() -> None:
    schema = jsonform.schema(Record, title="record")
    jsonschema.Draft202012Validator(schema).validate(json.loads(GOLDEN.read_text()))


def test_a_record_holds_every_latency() -> None:
    for result in read_record(GOLDEN).results:
        assert min(result.latency.samples_ms) == result.latency.min_ms
        assert result.latency.warmup_ms


def test_no_record_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        read_record(tmp_path / "record.json")
    with pytest.raises(InputError, match="is not a file"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"results": 3}, "results"),
        ({"measured_utc": "yesterday"}, "measured_utc"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, change: dict[str, object], told: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(json.loads(GOLDEN.read_text()) | change))
    with pytest.raises(ArtefactError, match=told):
        read_record(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", '{"schema_version": 1}'])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(ArtefactError, match="refused as a record"):
        read_record(path)


def test_a_figure_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    data = json.loads(GOLDEN.read_text())
    data["results"][0]["power_w"] = {"value": None}
    path = tmp_path / "record.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ArtefactError, match="either a value or a reason"):
        read_record(path)


def test_a_number_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    record = read_record(GOLDEN)
    broken = dataclasses.replace(record.results[0], throughput_per_s=float("nan"))
    with pytest.raises(ValueError, match="Out of range"):
        write_record(dataclasses.replace(record, results=(broken,)), tmp_path / "record.json")
    assert list(tmp_path.iterdir()) == []


def test_a_fake_probe_tells_its_readings_then_the_last_for_ever() -> None:
    figures = [Reading(Figure(n), Figure(n), Figure(n)) for n in (1, 2)]
    probe = FakeProbe(figures)
    assert [probe.read().rss_bytes.value for _ in range(4)] == [1, 2, 2, 2]
    assert probe.read().power_w.value is None
    with pytest.raises(UsageError, match="no reading"):
        FakeProbe([])
