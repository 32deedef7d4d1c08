"""The reader, the writer and the published schema say the same, on good and on broken documents."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime import jsonform
from jetlift.runtime.jsonform import FormError, field
from jetlift.runtime.manifest import Manifest

if typing.TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Cat:
    kind: Literal["cat"] = field(doc="Says so")
    lives: int = field(doc="Nine", default=9)


@dataclass(frozen=True)
class Dog:
    kind: Literal["dog"] = field(doc="Says so")
    tricks: tuple[str, ...] = field(doc="What it can", pattern=r"[a-z]+")


@dataclass(frozen=True)
class Zoo:
    """One field of every kind that jsonform knows."""

    name: str = field(doc="Name", pattern=r"[a-z][a-z0-9]*")
    open: bool = field(doc="Whether one can go in")
    area_m2: float = field(doc="Area")
    axes: tuple[int | str, ...] = field(doc="Mixed")
    pets: dict[str, Cat | Dog] = field(doc="By name", keys=r"[a-z]+")
    grade: Literal["a", "b"] | None = field(doc="May be null")
    digest: str | None = field(doc="May be null", pattern=r"[0-9a-f]{4}", default=None)
    table: tuple[tuple[float, ...], ...] = field(doc="Nested", default=())


# A strategy for every dataclass jsonform can read, derived from its hints.


def instances(cls: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    return st.builds(
        cls,
        **{item.name: _values(hints[item.name], item.metadata) for item in dataclasses.fields(cls)},
    )


def _values(hint: Any, metadata: Any) -> st.SearchStrategy[Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([_values(arg, metadata) for arg in args])
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(_values(args[0], metadata), max_size=3).map(tuple)
    if origin is dict:
        keys = metadata.get("keys")
        names = st.from_regex(keys, fullmatch=True) if keys else st.text(max_size=8)
        return st.dictionaries(names, _values(args[1], {}), min_size=1, max_size=2)
    if dataclasses.is_dataclass(hint):
        return instances(hint)
    if hint is str and metadata.get("pattern"):
        return st.from_regex(metadata["pattern"], fullmatch=True)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=12),
        bool: st.booleans(),
        int: st.integers(-(2**53), 2**53),
        float: st.floats(allow_nan=False, allow_infinity=False),
        type(None): st.none(),
    }
    return plain[hint]


@settings(max_examples=60, deadline=None)
@given(instances(Zoo))
def test_what_is_written_is_read_back(zoo: Zoo) -> None:
    assert jsonform.read(Zoo, jsonform.to_data(zoo)) == zoo
    assert jsonform.loads(Zoo, jsonform.dumps(zoo)) == zoo
    assert jsonform.loads(Zoo, jsonform.dumps(zoo).encode()) == zoo


@settings(max_examples=30, deadline=None)
@given(instances(Manifest))
def test_what_is_written_of_a_bundle_is_read_back(manifest: Manifest) -> None:
    assert jsonform.loads(Manifest, jsonform.dumps(manifest)) == manifest


# The JSON Schema against the reader, on documents with one thing changed.


def _as_ecma(_: Any, pattern: str, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """JSON Schema's `$` is ECMA's, which Python spells `\\Z`."""
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _as_ecma})

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.just(2.0)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
    | st.sampled_from(["cat", "dog", "image", "text", "fp32", "../x", "/x", "a\n", "x" * 64]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)


def _places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path into a JSON document."""
    yield path
    steps = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for step, inner in steps:
        yield from _places(inner, (*path, step))


@st.composite
def mutated(draw: Any, cls: type) -> Any:
    data = copy.deepcopy(jsonform.to_data(draw(instances(cls))))
    *parents, last = draw(st.sampled_from([path for path in _places(data) if path] or [("x",)]))
    holder = data
    for step in parents:
        holder = holder[step]
    change = draw(st.sampled_from(["replace", "remove", "add", "rename", "nothing"]))
    if change == "replace":
        holder[last] = draw(anything)
    elif change == "remove":
        del holder[last]
    elif change == "rename" and isinstance(holder, dict):
        holder[draw(st.sampled_from(["../x", "Tom", "rex", "kind", "x\n"]))] = holder.pop(last)
    elif change == "add" and isinstance(holder, dict):
        holder[draw(st.text(max_size=4))] = draw(anything)
    elif change == "add" and isinstance(holder, list):
        holder.append(draw(anything))
    return data


def _reads(cls: type, data: Any) -> bool:
    try:
        jsonform.loads(cls, json.dumps(data))
    except FormError:
        return False
    return True


@settings(max_examples=200, deadline=None)
@given(mutated(Zoo))
def test_reader_and_schema_agree(data: Any) -> None:
    assert _reads(Zoo, data) == ZOO_VALIDATOR.is_valid(data)


ZOO_VALIDATOR = Validator(jsonform.schema(Zoo, title="zoo"))
BUNDLE_VALIDATOR = Validator(jsonform.schema(Manifest, title="bundle"))


@settings(max_examples=60, deadline=None)
@given(mutated(Manifest))
def test_reader_and_schema_agree_on_bundles(data: Any) -> None:
    assert _reads(Manifest, data) == BUNDLE_VALIDATOR.is_valid(data)


@settings(deadline=None)
@given(anything)
def test_reader_and_schema_agree_on_anything(data: Any) -> None:
    assert _reads(Zoo, data) == ZOO_VALIDATOR.is_valid(data)


@pytest.mark.parametrize("cls", [Zoo, Manifest])
def test_the_schema_is_itself_valid(cls: type) -> None:
    jsonschema.Draft202012Validator.check_schema(jsonform.schema(cls, title="x"))


# What the reader says.

GOOD: dict[str, Any] = {
    "name": "north",
    "open": True,
    "area_m2": 12,
    "axes": ["batch", 3],
    "pets": {"tom": {"kind": "cat"}, "rex": {"kind": "dog", "tricks": ["sit"]}},
    "grade": None,
}


def test_a_whole_number_stands_for_a_float_and_the_other_way_round() -> None:
    zoo = jsonform.read(Zoo, {**GOOD, "axes": [3.0]})
    assert zoo.area_m2 == 12.0
    assert type(zoo.area_m2) is float
    assert type(zoo.axes[0]) is int


BROKEN: list[tuple[dict[str, Any], str, str, str]] = [
    ({"name": "North"}, "name", "'North'", "text that matches [a-z][a-z0-9]*"),
    ({"name": "north\n"}, "name", "'north\\n'", "text that matches [a-z][a-z0-9]*"),
    ({"name": 1}, "name", "1", "text"),
    ({"open": 1}, "open", "1", "true or false"),
    ({"open": "yes"}, "open", "'yes'", "true or false"),
    ({"area_m2": True}, "area_m2", "True", "a number"),
    ({"area_m2": 10**400}, "area_m2", "10", "a number that a double holds"),
    ({"axes": "batch"}, "axes", "'batch'", "a list"),
    ({"axes": ["batch", 1.5]}, "axes[1]", "1.5", "a whole number or text"),
    ({"axes": [True]}, "axes[0]", "True", "a whole number or text"),
    ({"pets": []}, "pets", "a list", "an object"),
    ({"pets": {"../x": {"kind": "cat"}}}, "pets", "the key '../x'", "keys that match [a-z]+"),
    ({"pets": {"tom": {"kind": "cow"}}}, "pets.tom.kind", "'cow'", "one of 'cat'"),
    ({"pets": {"rex": {"kind": "dog"}}}, "pets.rex.tricks", "nothing", "a value"),
    (
        {"pets": {"rex": {"kind": "dog", "x": 1}}},
        "pets.rex.x",
        "an unknown key",
        "one of kind, tri",
    ),
    (
        {"pets": {"rex": {"kind": "dog", "tricks": ["Sit"]}}},
        "pets.rex.tricks[0]",
        "'Sit'",
        "[a-z]+",
    ),
    ({"grade": "c"}, "grade", "'c'", "one of 'a', 'b' or null"),
    ({"digest": "xyz"}, "digest", "'xyz'", "text that matches [0-9a-f]{4} or null"),
    ({"table": [[1], [2, "x"]]}, "table[1][1]", "'x'", "a number"),
    ({"colour": "red"}, "colour", "an unknown key", "one of name, open"),
    ({"name": ["x"]}, "name", "a list", "text"),
    ({"name": {"x": 1}}, "name", "an object", "text"),
]


@pytest.mark.parametrize(("change", "where", "got", "expected"), BROKEN)
def test_a_broken_document_is_named_where_it_breaks(
    change: dict[str, Any], where: str, got: str, expected: str
) -> None:
    with pytest.raises(FormError) as caught:
        jsonform.read(Zoo, {**GOOD, **change})
    assert caught.value.where == where
    assert caught.value.got.startswith(got)
    assert expected in caught.value.expected
    too_large_for_a_double = expected == "a number that a double holds"  # which no schema can say
    assert ZOO_VALIDATOR.is_valid({**GOOD, **change}) == too_large_for_a_double


def test_a_missing_key_is_named() -> None:
    with pytest.raises(FormError, match="name: got nothing, expected a value"):
        jsonform.read(Zoo, {key: value for key, value in GOOD.items() if key != "name"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "not json",
        "[" * 100_000,
        "1" * 10_000,
        b"\xff\xfe\xfd",
        b"PK\x03\x04",
        "null",
        "[]",
        '"zoo"',
    ],
)
def test_text_that_is_no_such_document_is_refused(text: str | bytes) -> None:
    with pytest.raises(FormError):
        jsonform.loads(Zoo, text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    text = json.dumps(GOOD).replace("12", number)
    with pytest.raises(FormError, match=r"area_m2.*finite"):
        jsonform.loads(Zoo, text)


def test_numbers_that_are_not_finite_are_not_written() -> None:
    zoo = dataclasses.replace(jsonform.read(Zoo, GOOD), area_m2=math.nan)
    with pytest.raises(ValueError, match="not JSON compliant"):
        jsonform.dumps(zoo)


def test_a_message_quotes_no_more_than_a_line_of_the_document() -> None:
    with pytest.raises(FormError) as caught:
        jsonform.read(Zoo, {**GOOD, "name": "X" * 1_000_000})
    assert len(str(caught.value)) < 200


def test_defaults_are_left_out_and_come_back() -> None:
    data = jsonform.to_data(jsonform.read(Zoo, GOOD))
    assert "digest" not in data
    assert data["pets"]["tom"] == {"kind": "cat"}
    assert jsonform.read(Zoo, data).pets["tom"] == Cat(kind="cat", lives=9)


def test_what_is_written_is_plain_readable_text() -> None:
    text = jsonform.dumps(Dog(kind="dog", tricks=("süß",)))
    assert text == '{\n  "kind": "dog",\n  "tricks": [\n    "süß"\n  ]\n}\n'
