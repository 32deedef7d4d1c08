"""Options behind a name, and secrets that stay where they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import UsageError
from jetlift.runtime.outlets.options import (
    Options,
    split_address,
    split_options,
)


def test_options_follow_the_last_hash() -> None:
    name, options = split_options("http://h/a#b=1&part-mb=2.5&word=a%20b&on=yes")
    assert name == "http://h/a"
    assert options.whole("b", 7, least=1) == 1
    assert options.number("part-mb", None) == 2.5
    assert options.text("word") == "a b"
    assert options.flag("on")
    assert not options.flag("off")
    assert options.number("missing", None) is None
    assert options.choice("form", ("json", "text")) == "json"
    options.finish()


@pytest.mark.parametrize("spec", ["take #2.jsonl", "a#b", "#x=1", "a#=1", "a#B=1", "plain.csv"])
def test_a_hash_that_begins_no_options_belongs_to_the_name(spec: str) -> None:
    name, options = split_options(spec)
    assert name == spec
    options.finish()


def test_a_hash_in_a_name_before_options() -> None:
    name, options = split_options("take #2.jsonl#every=3")
    assert (name, options.whole("every", 1)) == ("take #2.jsonl", 3)


def test_options_that_nobody_knows_are_told_with_those_that_are() -> None:
    _, options = split_options("out.csv#evry=3")
    options.whole("every", 1)
    options.text("also")
    with pytest.raises(UsageError, match=r"evry.*also, every"):
        options.finish()
    with pytest.raises(UsageError, match=r"None\.$"):
        split_options("out.csv#x=3")[1].finish()


@pytest.mark.parametrize("value", ["x", "-1", "nan", "inf", "1e999"])
def test_numbers_that_cannot_be(value: str) -> None:
    with pytest.raises(UsageError, match="a number, 0 or more"):
        Options("s", {"n": value}).number("n", 1)


def test_other_values_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="whole number"):
        Options("s", {"n": "1.5"}).whole("n", 1)
    with pytest.raises(UsageError, match="yes or no"):
        Options("s", {"n": "maybe"}).flag("n")
    with pytest.raises(UsageError, match="one of a, b"):
        Options("s", {"n": "c"}).choice("n", ("a", "b"))


def test_a_secret_comes_from_the_environment_and_is_never_shown() -> None:
    environment = {"GOOD": " s3cret\n", "BAD": "two words", "EMPTY": ""}

    def options(variable: str) -> Options:
        return Options("https://user:pw@h", {"t": variable}, environment=environment)

    assert options("GOOD").secret("t") == "s3cret"
    assert Options("s", {}).secret("t") == ""
    for variable in ("BAD", "EMPTY", "ABSENT"):
        with pytest.raises(UsageError, match=variable) as caught:
            options(variable).secret("t")
        assert "two words" not in str(caught.value)
        assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["ftp://h/", "http://", "http:///x", "http://h:0/", "http://h:99999/", "h", "http://[1/"],
)
def test_addresses_that_cannot_be(address: str) -> None:
    with pytest.raises(UsageError):
        split_address(address, schemes=("http", "https"))


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="environment variable") as caught:
        split_address("http://me:hunter2@h/x", schemes=("http",))
    assert "hunter2" not in str(caught.value)


@given(st.text(), st.dictionaries(st.from_regex(r"[a-z][a-z-]*", fullmatch=True), st.integers()))
def test_any_name_and_options_come_apart_again(name: str, given_: dict[str, int]) -> None:
    if not given_ or not name:
        return
    spec = f"{name}#{'&'.join(f'{key}={value}' for key, value in given_.items())}"
    found, options = split_options(spec)
    assert found == name
    assert {key: int(options.text(key)) for key in given_} == given_
    options.finish()
