"""A matrix over real small bundles, built for real on the CPU: what is kept, fails, and is left."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.engines.build import build_for
from jetlift.engines.matrix import TABLE_NAME, Run
from jetlift.engines.matrix_form import Matrix, Model
from jetlift.engines.matrix_table import Table
from jetlift.runtime import jsonform
from jetlift.runtime.errors import EngineLibraryError, FidelityError

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle

pytest.importorskip("openvino")


def entry(name: str, *targets: str, **more) -> Model:
    return Model(name=name, model="minilm", targets=targets or ("cpu",), **more)


class Maker:
    """Exports by making a tiny bundle, and counts."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, model: Model, folder: Path) -> Bundle:
        self.made.append(str(model.name))
        if model.fidelity == "unmeetable":
            raise FidelityError("Nothing meets the budget")
        return tiny_bundle(folder)


def run_of(out: Path, *models: Model, maker: Maker | None = None, **more) -> Run:
    def build(bundle, target, precisions):
        return build_for(bundle, target, precisions, race_limit_s=0.2)

    options = {"build": build, "is_here": lambda target: target == "cpu", **more}
    return Run(Matrix(models), out, export=maker or Maker(), **options)


def test_every_cell_becomes_a_row_and_the_table_is_on_the_disk(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    table = run_of(
        tmp_path / "out",
        entry("one", precisions=("fp32", "int8")),
        entry("two", precisions=("fp32", "nvfp4")),
        tell=lambda doing, share: told.append((doing, share)),
    ).run()
    assert [(row.model, row.part, row.precision, row.outcome) for row in table.rows] == [
        ("one", "mlp", "fp32", "built"),
        ("one", "mlp", "int8", "built"),
        ("one", "image", "fp32", "built"),
        ("one", "image", "int8", "built"),
        ("two", "mlp", "fp32", "built"),
        ("two", "image", "fp32", "built"),
    ]
    for row in table.rows:
        assert (tmp_path / "out" / row.model / str(row.engine)).stat().st_size == row.size_bytes
        assert row.seconds is not None
        assert (row.speed is not None) == (row.precision == "int8")
    written = jsonform.loads(Table, (tmp_path / "out" / TABLE_NAME).read_bytes())
    assert written == table
    assert [share for _, share in told] == sorted(share for _, share in told)


def test_a_second_run_keeps_bundles_and_engines(tmp_path: Path) -> None:
    maker = Maker()
    run_of(tmp_path / "out", entry("one"), maker=maker).run()
    again = run_of(tmp_path / "out", entry("one"), maker=maker).run()
    assert maker.made == ["one"]
    assert {row.outcome for row in again.rows} == {"kept"}
    assert {row.seconds for row in again.rows} == {None}


def test_a_bundle_of_another_entry_is_refused_and_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_of(out, entry("one")).run()
    before = (out / "one" / "bundle.json").read_bytes()
    table = run_of(out, entry("one", fidelity="cosine_min>=0.9")).run()
    (row,) = table.rows
    assert row.outcome == "failed"
    assert "another entry of the manifest" in row.reason
    assert table.exit_code == 2
    assert (out / "one" / "bundle.json").read_bytes() == before


def test_a_folder_that_build_engines_did_not_make_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out" / "one").mkdir(parents=True)
    (row,) = run_of(tmp_path / "out", entry("one")).run().rows
    assert "another entry" in row.reason


def test_what_fails_is_a_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    table = run_of(
        tmp_path / "out",
        entry("lost", "cpu", "cpu-onnxruntime", fidelity="unmeetable"),
        entry("kept", "cpu-onnxruntime", "cpu", precisions=("fp32",)),
    ).run()
    assert [(row.model, row.target, row.outcome, row.exit_code) for row in table.rows] == [
        ("lost", "cpu", "failed", 1),
        ("lost", "cpu-onnxruntime", "failed", 1),
        ("kept", "cpu-onnxruntime", "failed", 2),
        ("kept", "cpu", "built", 0),
        ("kept", "cpu", "built", 0),
    ]
    assert "Nothing meets the budget" in table.rows[0].reason
    assert table.exit_code == 2


def test_a_board_is_handed_over_with_its_command(tmp_path: Path) -> None:
    table = run_of(tmp_path / "out", entry("one", "orin-nano-8gb", precisions=("fp32",))).run()
    assert {row.outcome for row in table.rows} == {"handed over"}
    assert {row.engine for row in table.rows} == {None}
    assert (tmp_path / "out/one/engines/orin-nano-8gb/recipe.json").is_file()
    assert table.exit_code == 0


def test_an_interrupted_matrix_leaves_the_rows_it_had(tmp_path: Path) -> None:
    def build(bundle, target, precisions):
        if bundle.folder.name == "two":
            raise KeyboardInterrupt
        return build_for(bundle, target, precisions, race_limit_s=0)

    run = run_of(tmp_path / "out", entry("one"), entry("two"), build=build)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    rows = json.loads((tmp_path / "out" / TABLE_NAME).read_text())["rows"]
    assert {row["model"] for row in rows} == {"one"}
    again = run_of(tmp_path / "out", entry("one"), entry("two")).run()
    assert {(row.model, row.outcome) for row in again.rows} == {("one", "kept"), ("two", "built")}


def test_builds_for_other_machines_run_side_by_side_and_this_one_last(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=60)
    order: list[str] = []

    def build(bundle, target, precisions):
        order.append(target)
        if target != "cpu":
            together.wait()  # passes only where two builds are under way at once
            raise EngineLibraryError(f"No engine for {target}")
        return build_for(bundle, target, precisions, race_limit_s=0)

    models = [replace(entry("one"), targets=("cpu", "rtx-sm86", "rtx-sm89"))]
    table = run_of(tmp_path / "out", *models, build=build, jobs=2).run()
    assert order[-1] == "cpu"
    assert [row.target for row in table.rows if row.outcome == "failed"] == ["rtx-sm86", "rtx-sm89"]
    assert {row.outcome for row in table.rows if row.target == "cpu"} == {"built"}


def test_an_unforeseen_fault_side_by_side_stops_what_has_not_begun(tmp_path: Path) -> None:
    begun: list[str] = []

    def build(_bundle, target, _precisions):
        begun.append(target)
        raise ZeroDivisionError

    targets = ("rtx-sm86", "rtx-sm89", "rtx-sm120", "rtx-sm121", "rtx-sm80", "rtx-sm75")
    run = run_of(tmp_path / "out", entry("one", *targets), build=build, jobs=2)
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError):
        run.run()
    assert set(threading.enumerate()) <= before
