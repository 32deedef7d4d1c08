from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.engines.matrix_form import Model, read_matrix, request_of
from jetlift.runtime.errors import InputError, UnknownNameError, UsageError

WHOLE = """
[defaults]
targets = ["cpu", "rtx-sm86"]
precisions = ["fp32", "int8"]

[[models]]
model = "dinov2-small"
weights = "package"
samples = "pictures"
search_minutes = 2

[[models]]
onnx = "graphs/yolox_nano.onnx"
task = "detect"
samples = "pictures"
targets = ["orin-nano-8gb", "cpu", "cpu"]

[[models]]
name = "finished"
bundle = "made/minilm"
precisions = ["fp32"]
"""


def written(tmp_path, text: str):
    path = tmp_path / "engines.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_model_comes_with_its_name_targets_and_paths(tmp_path):
    (tmp_path / "graphs").mkdir()
    dino, yolox, finished = read_matrix(written(tmp_path, WHOLE)).models
    assert (dino.name, dino.targets) == ("dinov2-small", ("cpu", "rtx-sm86"))
    assert dino.precisions == ("fp32", "int8")
    assert dino.weights == "package"
    assert dino.samples == str(tmp_path / "pictures")
    assert (yolox.name, yolox.targets) == ("yolox_nano", ("orin-nano-8gb", "cpu"))
    assert yolox.onnx == str(tmp_path / "graphs/yolox_nano.onnx")
    assert (finished.bundle, finished.precisions) == (str(tmp_path / "made/minilm"), ("fp32",))


def test_weights_that_lie_beside_the_manifest_are_a_path(tmp_path):
    (tmp_path / "mine.safetensors").touch()
    text = '[[models]]\nmodel = "minilm"\nweights = "mine.safetensors"\n'
    assert read_matrix(written(tmp_path, text)).models[0].weights == str(
        tmp_path / "mine.safetensors"
    )


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("models = [", InputError, "cannot be read"),
        ("", InputError, "at models: got nothing"),
        ("models = []", UsageError, "names no model"),
        ('[[models]]\nmodle = "minilm"', InputError, r"at models\[0\].modle: got an unknown key"),
        ("[[models]]\nmodel = 3", InputError, r"models\[0\].model: got 3"),
        ('[[models]]\nname = "../up"\nmodel = "minilm"', InputError, "name"),
        ('[[models]]\nname = "x"', UsageError, "none of these"),
        ('[[models]]\nmodel = "a"\nonnx = "b"', UsageError, "model and onnx"),
        ('[[models]]\nbundle = "b"\nsamples = "s"', UsageError, "'samples' beside it"),
        ('[[models]]\nmodel = "minilm"\ntask = "detect"', UsageError, "Only onnx takes any"),
        ('[[models]]\nmodel = "minilm"\ntargets = ["nowhere"]', UnknownNameError, "nowhere"),
        ('[[models]]\nmodel = "a"\n[[models]]\nonnx = "a.onnx"', UsageError, "two models named"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_refused_with_its_place(tmp_path, text, error, said):
    with pytest.raises(error, match=said):
        read_matrix(written(tmp_path, text))


def test_a_manifest_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_matrix(tmp_path / "none.toml")


@given(st.sampled_from(["name", "targets"]), st.text(min_size=1))
def test_a_request_does_not_depend_on_names_and_targets(key, value):
    model = Model(model="minilm", samples="s.txt")
    changed = Model(
        model="minilm", samples="s.txt", **{key: (value,) if key == "targets" else value}
    )
    assert request_of(changed) == request_of(model) == {"model": "minilm", "samples": "s.txt"}
