"""Frozen dataclasses to JSON and back, and the JSON Schema that says the same.

One definition serves reader, writer and published schema, so the three cannot drift apart.
It needs the standard library alone, because bundles and passports are read on the device.

Supported field types: str, int, float, bool, None, Literal, other dataclasses, tuple[T, ...],
dict[str, T], and unions of these. A field's `metadata` may hold `doc` (for the schema) and
`pattern` (a regular expression a string must match in full) and `keys` (the same for the keys of a
dictionary). Numbers are finite, and a number without a fraction is a whole number, as JSON Schema
has it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
import types
import typing
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jetlift.runtime.errors import JetliftError

T = TypeVar("T")

_PLAIN: dict[Any, tuple[str, str]] = {
    str: ("string", "text"),
    bool: ("boolean", "true or false"),
    int: ("integer", "a whole number"),
    float: ("number", "a number"),
    type(None): ("null", "null"),
}


class FormError(ValueError):
    """A JSON document does not have the form asked for.

    Attributes:
        where: Path of the offending value, as in `parts.image.inputs[0].dtype`.
        got: What stands there.
        expected: What should.
    """

    def __init__(self, where: str, got: str, expected: str) -> None:
        self.where, self.got, self.expected = where, got, expected
        super().__init__(f"{where or 'the document'}: got {got}, expected {expected}")


@contextlib.contextmanager
def refusing(name: object, kind: type[JetliftError], *, do: str) -> Iterator[None]:
    """Turn a FormError of the block into the error that users read of a file.

    Args:
        name: The file, as it is to be named.
        kind: What is raised.
        do: What mends it.
    """
    try:
        yield
    except FormError as error:
        raise kind(
            f"{name} is refused at {error.where or 'its start'}: got {error.got}",
            expected=f"Expected {error.expected}",
            do=do,
        ) from error


def field(
    *,
    doc: str,
    pattern: str | None = None,
    keys: str | None = None,
    default: Any = dataclasses.MISSING,  # noqa: ANN401 - whatever the field's type is
) -> Any:  # noqa: ANN401 - dataclasses.field is typed so
    """Declare a dataclass field with what its schema says of it."""
    metadata = {"doc": doc, "pattern": pattern, "keys": keys}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def loads(cls: type[T], text: str | bytes) -> T:
    """Read one dataclass from JSON text.

    Raises:
        FormError: The text is not JSON or not of this form.
    """
    return read(cls, parse(text))


def parse(text: str | bytes) -> object:
    """Parse JSON text, of whatever form.

    Raises:
        FormError: The text is not JSON.
    """
    try:
        data: object = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: syntax, encoding, endless digits
        raise FormError("", f"text that is not JSON ({error})", "a JSON document") from error
    return data


def read(cls: type[T], data: object, where: str = "") -> T:
    """Read one dataclass from parsed JSON.

    Raises:
        FormError: A key is missing, unknown, or its value has another type.
    """
    if not isinstance(data, dict):
        raise FormError(where, _name_of(data), "an object")
    hints = typing.get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise FormError(_join(where, key), "an unknown key", f"one of {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, item in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], _join(where, name), item)
        elif item.default is dataclasses.MISSING:
            raise FormError(_join(where, name), "nothing", "a value, since the key is required")
    return cls(**values)


def dumps(instance: object) -> str:
    """Write a dataclass as indented JSON with a final newline. NaN and infinity are refused.

    Raises:
        ValueError: A number is not finite.
    """
    return json.dumps(to_data(instance), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_data(value: Any) -> Any:  # noqa: ANN401 - JSON is what it is
    """Turn dataclasses and tuples into plain JSON data, without the keys that are at default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: to_data(getattr(value, item.name))
            for item in dataclasses.fields(value)
            if item.default is dataclasses.MISSING or getattr(value, item.name) != item.default
        }
    if isinstance(value, dict):
        return {str(key): to_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_data(item) for item in value]
    return value


def schema(cls: type, *, title: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a dataclass."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **_object_schema(cls),
    }


def _value(
    hint: Any,  # noqa: ANN401 - type hints have no common type
    data: object,
    where: str,
    item: dataclasses.Field[Any] | None,
) -> object:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(args, data, where, item)
    if origin is Literal:
        if data not in args or isinstance(data, bool) != any(
            data is arg for arg in args if isinstance(arg, bool)
        ):
            raise FormError(where, _name_of(data), f"one of {', '.join(map(repr, args))}")
        return data
    if origin is tuple:
        if not isinstance(data, list):
            raise FormError(where, _name_of(data), "a list")
        return tuple(_value(args[0], entry, f"{where}[{i}]", item) for i, entry in enumerate(data))
    if origin is dict:
        if not isinstance(data, dict):
            raise FormError(where, _name_of(data), "an object")
        _check_keys(data, where, item)
        return {key: _value(args[1], entry, _join(where, key), None) for key, entry in data.items()}
    if dataclasses.is_dataclass(hint):
        return read(typing.cast("type[Any]", hint), data, where)
    return _plain(hint, data, where, item)


def _union(
    args: tuple[Any, ...], data: object, where: str, item: dataclasses.Field[Any] | None
) -> object:
    errors: list[FormError] = []
    for arg in _of_that_kind(args, data) or args:
        try:
            return _value(arg, data, where, item)
        except FormError as error:
            errors.append(error)
    # The branch that got deepest into the document knows best what is wrong with it.
    deepest = max(errors, key=lambda error: len(error.where))
    if deepest.where != where:
        raise deepest
    raise FormError(where, deepest.got, " or ".join(error.expected for error in errors))


def _of_that_kind(args: tuple[Any, ...], data: object) -> list[Any]:
    """The dataclasses whose Literal `kind` is the document's: what is wrong is judged by them."""
    if not isinstance(data, dict):
        return []
    kinds = [
        (arg, get_args(typing.get_type_hints(arg).get("kind")))
        for arg in args
        if dataclasses.is_dataclass(arg)
    ]
    return [arg for arg, names in kinds if data.get("kind") in names]


def _check_keys(data: dict[str, Any], where: str, item: dataclasses.Field[Any] | None) -> None:
    pattern = item.metadata.get("keys") if item else None
    for key in data:
        if pattern and not re.fullmatch(pattern, key):
            raise FormError(where, f"the key {_name_of(key)}", f"keys that match {pattern}")


def _plain(
    hint: Any,  # noqa: ANN401
    data: object,
    where: str,
    item: dataclasses.Field[Any] | None,
) -> object:
    if hint in (int, float) and type(data) in (int, float):
        return _number(hint, typing.cast("float", data), where)
    if not isinstance(data, hint) or (isinstance(data, bool) and hint is not bool):
        raise FormError(where, _name_of(data), _PLAIN[hint][1])
    pattern = item.metadata.get("pattern") if item else None
    if pattern and isinstance(data, str) and not re.fullmatch(pattern, data):
        raise FormError(where, _name_of(data), f"text that matches {pattern}")
    return data


def _number(hint: type[int | float], data: float, where: str) -> float:
    try:
        if not math.isfinite(data):
            raise FormError(where, _name_of(data), "a finite number")
        if hint is int and data != int(data):
            raise FormError(where, _name_of(data), _PLAIN[int][1])
        return hint(data)
    except OverflowError:
        raise FormError(where, _name_of(data), "a number that a double holds") from None


def _object_schema(cls: Any) -> dict[str, Any]:  # noqa: ANN401
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    properties = {}
    for item in fields:
        entry = _hint_schema(hints[item.name], item.metadata.get("pattern"))
        if item.metadata.get("keys"):
            entry["propertyNames"] = {"pattern": f"^(?:{item.metadata['keys']})$"}
        if item.metadata.get("doc"):
            entry["description"] = item.metadata["doc"]
        properties[item.name] = entry
    required = [item.name for item in fields if item.default is dataclasses.MISSING]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _hint_schema(hint: Any, pattern: str | None) -> dict[str, Any]:  # noqa: ANN401
    origin, args = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_hint_schema(arg, pattern) for arg in args]}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _hint_schema(args[0], pattern)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _hint_schema(args[1], None)}
    if dataclasses.is_dataclass(hint):
        return _object_schema(hint)
    entry: dict[str, Any] = {"type": _PLAIN[hint][0]}
    if pattern and hint is str:
        entry["pattern"] = f"^(?:{pattern})$"
    return entry


def _name_of(data: object) -> str:
    if isinstance(data, dict):
        return "an object"
    if isinstance(data, list):
        return "a list"
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else str(key)
