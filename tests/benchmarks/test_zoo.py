"""The table of the zoo: every step told, what failed with its reason, no cell empty."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from jetlift.benchmarks import zoo, zoo_table
from jetlift.benchmarks.zoo_systems import RANDOM, SYSTEMS, System
from jetlift.export.recipes import RECIPES

BROKEN = System("Broken", "no-such-model", RANDOM, ("fp32",), ("run", "{bundle}", "x"))


def test_every_row_is_of_a_recipe_that_has_its_title_once() -> None:
    assert {system.model for system in SYSTEMS} <= set(RECIPES)
    assert len({system.key for system in SYSTEMS}) == len(SYSTEMS)


def test_a_step_that_fails_is_told_and_what_needs_it_is_not_tried(tmp_path: Path) -> None:
    (step,) = zoo.run_system(BROKEN, tmp_path, {})
    assert (step.step, step.ok) == ("export", False)
    assert step.told.startswith("exit 2: ")
    assert "no-such-model" in step.told
    assert step.seconds > 0
    assert step.peak_bytes > 0


def test_a_step_that_is_done_is_not_done_again_and_one_that_failed_is(tmp_path: Path) -> None:
    zoo.run_system(BROKEN, tmp_path, {})
    zoo.run_system(BROKEN, tmp_path, {})
    path = tmp_path / BROKEN.key / zoo.STEPS_NAME
    assert len(path.read_text().splitlines()) == 2
    done = {"step": "export", "ok": True, "seconds": 1.0, "peak_bytes": 1, "told": ""}
    path.write_text(json.dumps(done) + "\n")
    steps = zoo.run_system(BROKEN, tmp_path, {})
    assert [(step.step, step.ok) for step in steps[:2]] == [("export", True), ("rtx fp32", False)]


def test_the_table_has_a_row_per_system_and_no_empty_cell(tmp_path: Path) -> None:
    folder = tmp_path / SYSTEMS[0].key
    folder.mkdir()
    failed = {"step": "export", "ok": False, "seconds": 250.0, "peak_bytes": 3 << 30, "told": "a|b"}
    (folder / zoo.STEPS_NAME).write_text(json.dumps(failed) + "\n")
    head, _, *rows = [line for line in zoo_table.render(tmp_path).splitlines() if line[:1] == "|"]
    assert len(rows) == len(SYSTEMS)
    for row in rows:
        cells = row.strip("|").split("|")
        assert len(cells) == len(zoo_table.HEADS) == len(head.strip("|").split("|"))
        assert all(cell.strip() for cell in cells)
    assert "no, after 4.2 min, 3.0 GiB [1]" in rows[0]
    assert "1. a/b" in zoo_table.render(tmp_path)


def test_of_many_outputs_the_worst_is_told() -> None:
    figures = {"wer": 24.0, "a.cosine_min": 0.9, "b.cosine_min": 0.8, "c.cosine_min": 0.95}
    assert zoo_table._by_kind(figures) == ["wer 24", "cosine_min of 3 outputs 0.8 or more"]
    two = {"a.cosine_min": 0.9, "b.cosine_min": 0.8}
    assert zoo_table._by_kind(two) == ["a.cosine_min 0.9", "b.cosine_min 0.8"]


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system tells no child's memory")
def test_a_whole_row_at_a_size_for_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command is real; only the model is smaller than any published one."""
    import sys

    monkeypatch.setattr(zoo, "PROGRAM", (sys.executable, str(_tiny_program(tmp_path))))
    system = System(
        "Tiny",
        "vit-tiny",
        RANDOM,
        ("fp32", "fp16"),
        ("run", "{bundle}", "{picture}", "-o", "{out}"),
    )
    monkeypatch.setattr(zoo_table, "SYSTEMS", (system,))
    picture = tmp_path / "p.png"
    _draw(picture)
    steps = zoo.run_system(system, tmp_path, {"{picture}": str(picture)})
    assert [(step.step, step.told) for step in steps if not step.ok] == []
    row = zoo_table.render(tmp_path).splitlines()[2]
    assert "| random | 0.0 M |" in row
    assert "| structure | not made |" in row
    assert "fp32 1, fp16 1 (" in row
    assert "in FP16)" in row
    assert "| image " in row


def _tiny_program(folder: Path) -> Path:
    program = folder / "program.py"
    program.write_text(
        "from functools import partial\n"
        "from jetlift.export.recipes import RECIPES, base, vit\n"
        "RECIPES['vit-tiny'] = base.Recipe('vit-tiny', 'ViT, tiny', ('classify',), 'nobody/none', "
        "'none', None, 0, {'image': vit.part(vit.TINY)}, "
        "partial(vit.load, vit.TINY, 'ViT, tiny', 'nobody/none'), random=True)\n"
        "from jetlift.__main__ import main\n"
        "main()\n"
    )
    return program


def _draw(path: Path) -> None:
    import cv2
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)
