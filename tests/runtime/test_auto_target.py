from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tiny_bundle import tiny_bundle
from helpers.verdict_cases import AGX, CONTENT, ON_AGX, ON_RTX, PC

from jetlift.runtime.auto_target import Choice, choose_target
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.passport import Passport, onnx_sha256, write_passport


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "bundle", random=False)


def built(
    bundle: Bundle, passport: Passport, target: str = "", part: str = "image", name: str = "fp32"
) -> None:
    """Put an engine with a passport beside a bundle; its bytes are no engine's."""
    target = target or passport.target
    engine = bundle.engine_path(target, part, name)
    engine.parent.mkdir(parents=True, exist_ok=True)
    engine.write_bytes(CONTENT)
    graph = onnx_sha256(bundle, part, name)
    passport = replace(passport, target=target, part=part, variant=name, onnx_sha256=graph)
    write_passport(passport, engine)


def test_without_engines_it_is_the_cpu(bundle: Bundle) -> None:
    assert choose_target(bundle, ("image",), None, host=PC) == Choice("cpu", None, ())
    assert choose_target(bundle, ("image",), "int8", host=PC) == Choice("cpu", "int8", ())


def test_an_engine_that_may_load_here_is_taken(bundle: Bundle) -> None:
    built(bundle, ON_RTX)
    choice = choose_target(bundle, ("image",), None, host=PC)
    assert (choice.target, choice.precision) == ("rtx-sm86", None)
    assert choice.notices == ("Target rtx-sm86: its engines may load here.",)


def test_one_for_another_machine_is_passed_over_with_the_reason(bundle: Bundle) -> None:
    built(bundle, ON_AGX)
    choice = choose_target(bundle, ("image",), None, host=PC)
    assert choice.target == "cpu"
    assert "it was built for aarch64 and this machine is x86_64" in choice.notices[0]
    assert choose_target(bundle, ("image",), None, host=AGX).target == "agx-orin-64gb"


def test_every_part_has_to_be_there(bundle: Bundle) -> None:
    built(bundle, ON_RTX)
    choice = choose_target(bundle, ("image", "mlp"), None, host=PC)
    assert choice.target == "cpu"
    assert "part mlp" in choice.notices[0]
    built(bundle, ON_RTX, part="mlp")
    assert choose_target(bundle, ("image", "mlp"), None, host=PC).target == "rtx-sm86"


def test_the_only_variant_that_is_built_is_taken(bundle: Bundle) -> None:
    built(bundle, ON_RTX, name="int8")
    assert choose_target(bundle, ("image",), None, host=PC).precision == "int8"
    assert choose_target(bundle, ("image",), "fp16", host=PC).target == "cpu"
    built(bundle, ON_RTX, name="fp16")
    assert choose_target(bundle, ("image",), None, host=PC).target == "cpu"  # which of the two?
    assert choose_target(bundle, ("image",), "fp16", host=PC).target == "rtx-sm86"


def test_a_named_gpu_comes_before_any_gpu(bundle: Bundle) -> None:
    built(bundle, ON_RTX, target="rtx")
    built(bundle, ON_RTX)
    assert choose_target(bundle, ("image",), None, host=PC).target == "rtx-sm86"


def test_engines_of_the_cpu_and_strange_folders_are_no_choice(bundle: Bundle) -> None:
    built(bundle, ON_RTX, target="cpu")
    (bundle.folder / "engines" / ".aside").mkdir()
    (bundle.folder / "engines" / "notes.txt").write_text("x")
    assert choose_target(bundle, ("image",), None, host=PC) == Choice("cpu", None, ())
