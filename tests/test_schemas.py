"""The published schemas are what the code says.

Run this file as a script to write them anew: python tests/test_schemas.py
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from jetlift.engines.board_recipe import BoardRecipe
from jetlift.engines.matrix_form import Matrix
from jetlift.engines.matrix_table import Table
from jetlift.export.recipes import RECIPES
from jetlift.runtime import jsonform
from jetlift.runtime.budget_form import BudgetFile
from jetlift.runtime.host import HostFile
from jetlift.runtime.manifest import Manifest
from jetlift.runtime.passport import Passport
from jetlift.runtime.prompts import PromptsHead
from jetlift.runtime.record import Record
from jetlift.runtime.tasks.anomaly import AnomalyHead
from jetlift.runtime.tasks.search import IndexHead

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "schemas"
PUBLISHED: dict[str, tuple[type, str]] = {
    "bundle.schema.json": (Manifest, "bundle.json of a jetlift bundle"),
    "build-engines.schema.json": (Matrix, "manifest of build-engines"),
    "engines.schema.json": (Table, "table of build-engines"),
    "budget.schema.json": (BudgetFile, "budget file of jetlift, as TOML reads it"),
    "passport.schema.json": (Passport, "passport of a jetlift engine"),
    "host.schema.json": (HostFile, "what a machine tells jetlift of itself"),
    "record.schema.json": (Record, "record.json of a jetlift measurement"),
    "board_recipe.schema.json": (BoardRecipe, "recipe.json of a board's jetlift engines"),
    "index.schema.json": (IndexHead, "head of a jetlift search index"),
    "anomaly.schema.json": (AnomalyHead, "head of a jetlift anomaly model"),
    "prompts.schema.json": (PromptsHead, "head of a jetlift file of prompts"),
}


def _schema(name: str) -> dict[str, Any]:
    cls, title = PUBLISHED[name]
    return jsonform.schema(cls, title=title)


def _text(name: str) -> str:
    return json.dumps(_schema(name), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_schema_is_what_the_code_says(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == _text(name), "write it anew with: python tests/test_schemas.py"


def test_nothing_else_is_published() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_schema_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(_schema(name))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_says_what_it_means(name: str) -> None:
    def missing(schema: Any, where: str) -> list[str]:
        found = []
        for key, inner in schema.get("properties", {}).items():
            if not inner.get("description"):
                found.append(f"{where}.{key}")
            found += missing(inner, f"{where}.{key}")
        for branch in schema.get("anyOf", ()):
            found += missing(branch, where)
        for holder in ("items", "additionalProperties"):
            if isinstance(schema.get(holder), dict):
                found += missing(schema[holder], f"{where}[]")
        return found

    assert missing(_schema(name), "") == []


def test_the_golden_bundle_obeys_the_published_schema() -> None:
    golden = ROOT / "tests" / "runtime" / "golden" / "bundle.json"
    schema = json.loads((FOLDER / "bundle.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(golden.read_text(encoding="utf-8")))


@pytest.mark.parametrize("form", [Manifest, Passport, Record, BoardRecipe])
def test_every_model_of_the_zoo_may_stand_in_every_form(form: type) -> None:
    pattern = jsonform.schema(form, title="")["properties"]["model"]["pattern"]
    refused = [name for name in RECIPES if re.search(pattern, name) is None]
    assert refused == []


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file in sys.argv[1:] or PUBLISHED:
        (FOLDER / file).write_text(_text(file), encoding="utf-8")
