"""Real weights: transformers, torch modules, ONNX graphs and the runtime's loop say the same."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from jetlift.benchmarks.speech_corpus import write_corpus
from jetlift.export.fidelity import MetricContext, outputs_of
from jetlift.export.recipes import recipe, whisper, whisper_samples
from jetlift.export.recipes.whisper_weights import state_of_ctranslate2
from jetlift.export.samples import ItemContext, Samples, split
from jetlift.runtime.audio import LogMel, read_sound
from jetlift.runtime.errors import ArtefactError, BundleError, InputError, UsageError
from jetlift.runtime.session import open_onnx, open_session
from jetlift.runtime.tasks.greedy import GENERATION, GenerationFacts, GreedyDecoder

PARTS = ("encoder", "cross", "decoder")
ENGLISH = recipe("whisper-tiny-en")


@pytest.fixture(scope="module")
def state():
    return state_of_ctranslate2(whisper.PACKAGED.locate(), 4)


@pytest.fixture(scope="module")
def model(state):
    """transformers' own Whisper with the same weights."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from jetlift.export.weights import quiet_transformers

    config = WhisperConfig(
        vocab_size=51_864, d_model=384, encoder_layers=4, decoder_layers=4,
        encoder_attention_heads=6, decoder_attention_heads=6,
        encoder_ffn_dim=1536, decoder_ffn_dim=1536,
    )  # fmt: skip
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    with quiet_transformers():
        return WhisperForConditionalGeneration.from_pretrained(
            None, config=config, state_dict=tensors
        ).eval()


@pytest.fixture(scope="module")
def files(whisper_bundle):
    return {part: whisper_bundle.path(f"{part}.fp32.onnx") for part in PARTS}


@pytest.fixture(scope="module")
def log_mel(whisper_bundle, speech):
    prepared = LogMel(whisper.PREPROCESS, whisper_bundle.path(whisper.FILTERS))
    return prepared.window(prepared.prepare(read_sound(speech)))


@pytest.fixture(scope="module")
def facts(whisper_bundle):
    return GenerationFacts.read(whisper_bundle.path(GENERATION))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Ten made utterances."""
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")
    return write_corpus(tmp_path_factory.mktemp("speech") / "corpus", 10)


@pytest.fixture(scope="module")
def few(tmp_path_factory, spoken):
    """The first three of them."""
    folder = tmp_path_factory.mktemp("few")
    for path in sorted(spoken.glob("utterance_000[012].*")):
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def heard(whisper_bundle, log_mel):
    """Cross keys and values of the recording, by ONNX Runtime."""
    with contextlib.ExitStack() as stack:
        encoder, cross = (
            stack.enter_context(
                open_session(whisper_bundle, part, "fp32", target="cpu-onnxruntime")
            )
            for part in ("encoder", "cross")
        )
        return cross.run(encoder.run({"log_mel": log_mel}))


def test_parts_have_the_shapes_that_the_recipe_states(whisper_bundle):
    parts = whisper_bundle.manifest.parts
    shapes = {spec.name: spec.shape for part in parts.values() for spec in part.outputs}
    assert shapes["hidden"] == ("batch", 1500, 384)
    assert shapes["cross_key_3"] == shapes["cross_value_0"] == ("batch", 6, 1500, 64)
    assert shapes["logits"] == ("batch", 51_864)
    assert shapes["new_value_3"] == ("batch", 6, 1, 64)
    assert sum(part.parameters for part in parts.values()) == 37_760_256
    assert whisper_bundle.manifest.tasks == ("transcribe",)


def test_a_manifest_that_does_not_list_its_filter_bank_is_refused(whisper_bundle):
    manifest = whisper_bundle.manifest
    files = tuple(entry for entry in manifest.files if entry.path != whisper.FILTERS)
    altered = replace(whisper_bundle, manifest=replace(manifest, files=files))
    with pytest.raises(BundleError, match=r"names assets/mel_filters\.npy but does not list it"):
        altered._verify()


def test_generation_facts_are_those_of_the_model(facts):
    assert facts.prompt == (50_257, 50_362)
    assert (facts.end, facts.nothing_said, facts.max_tokens) == (50_256, 50_361, 224)
    assert facts.suppress_first == (220, 50_256)
    assert len(facts.suppress) == 90


def test_encoder_equals_transformers(model, log_mel, whisper_bundle):
    with torch.no_grad():
        wanted = model.model.encoder(torch.from_numpy(log_mel)).last_hidden_state.numpy()
    for target in ("cpu", "cpu-onnxruntime"):
        with open_session(whisper_bundle, "encoder", "fp32", target=target) as session:
            got = session.run({"log_mel": log_mel})["hidden"]
        np.testing.assert_allclose(got, wanted, atol=2e-3, rtol=1e-3)


def test_steps_equal_transformers_on_the_whole_sequence(model, log_mel, heard, files, facts):
    """Teacher forcing: each step's logits are those of the sequence computed at once."""
    from jetlift.runtime.tasks.greedy import Steps

    words = [843, 523, 616, 5891, 3399, 1265, 407, 644, 534, 1499]
    tokens = [*facts.prompt, *words]
    with torch.no_grad():
        wanted = (
            model(torch.from_numpy(log_mel), decoder_input_ids=torch.tensor([tokens]))
            .logits[0]
            .numpy()
        )
    with open_onnx(files["decoder"], library="onnxruntime") as session:
        steps = Steps(session, heard)
        for place, token in enumerate(tokens):
            got = steps.advance(np.array([token], np.int64))[0]
            np.testing.assert_allclose(got, wanted[place], atol=2e-3)


def test_greedy_tokens_equal_those_of_transformers(model, log_mel, heard, files, facts):
    from transformers import GenerationConfig

    asked = GenerationConfig(
        decoder_start_token_id=facts.prompt[0], eos_token_id=facts.end, pad_token_id=facts.end,
        suppress_tokens=list(facts.suppress), begin_suppress_tokens=list(facts.suppress_first),
        no_timestamps_token_id=facts.prompt[1], is_multilingual=False, return_timestamps=False,
        num_beams=1, do_sample=False, max_new_tokens=facts.max_tokens,
    )  # fmt: skip
    with open_onnx(files["decoder"], library="openvino") as session:
        (decoded,) = GreedyDecoder(session, facts).decode(heard)
    with torch.no_grad():
        wanted = model.generate(
            torch.from_numpy(log_mel), generation_config=asked,
            attention_mask=torch.ones(1, 3000, dtype=torch.long),
        )  # fmt: skip
    ids = [int(i) for i in wanted[0] if int(i) < facts.end]
    assert list(decoded.tokens) == ids
    assert len(ids) == 24


def test_a_batch_decodes_as_each_alone(heard, files, facts):
    quiet = {name: np.zeros_like(array) for name, array in heard.items()}
    both = {name: np.concatenate([heard[name], quiet[name]]) for name in heard}
    with open_onnx(files["decoder"], library="onnxruntime") as session:
        decoder = GreedyDecoder(session, facts)
        together = decoder.decode(both, [60, 5])
        assert together[0].tokens == decoder.decode(heard)[0].tokens
        assert together[1].tokens == decoder.decode(quiet, [5])[0].tokens


# Samples and metrics.


def _context(spoken, whisper_bundle, files):
    return ItemContext(
        folder=spoken, part=whisper_bundle.part("encoder")[1],
        bundle_folder=whisper_bundle.folder, files=files,
    )  # fmt: skip


def test_encoder_is_judged_by_words(spoken, whisper_bundle, files):
    part = ENGLISH.parts["encoder"]
    items = part.items(_context(spoken, whisper_bundle, files))
    report = split(items, note="test").report
    metric = part.metric(MetricContext("encoder", report, files, whisper_bundle.folder))
    with open_onnx(files["encoder"]) as session:
        reference = outputs_of(session, report.feeds)
    noise = np.random.default_rng(0).standard_normal(reference["hidden"][0].shape)
    wrong = {"hidden": [array + 3 * noise.astype(np.float32) for array in reference["hidden"]]}
    same, worse = metric.figures(reference, reference), metric.figures(reference, wrong)
    assert same["wer"] == same["wer_fp32"] < 60
    assert same["token_agreement"] == 1.0
    assert same["wer_change_low"] == same["wer_change_high"] == 0.0
    assert worse["wer"] > worse["wer_fp32"] == same["wer_fp32"]
    assert worse["token_agreement"] < 0.9
    assert metric.loss(worse) > metric.loss(same)
    with pytest.raises(UsageError, match="have no words"):
        unlabelled = Samples(report.feeds, report.described, [None] * len(report.feeds))
        part.metric(MetricContext("encoder", unlabelled, files, whisper_bundle.folder))


def test_cross_gets_the_hidden_states(few, whisper_bundle, files, monkeypatch):
    monkeypatch.setattr(whisper_samples, "CROSS_UTTERANCES", 2)
    items = ENGLISH.parts["cross"].items(_context(few, whisper_bundle, files))
    assert len(items) == 2
    with open_onnx(files["cross"]) as session:
        assert len(session.run(items[0].feeds[0])) == 8


def test_decoder_gets_steps_of_the_spoken_words(few, whisper_bundle, files, facts):
    items = ENGLISH.parts["decoder"].items(_context(few, whisper_bundle, files))
    assert len(items) == 3
    feeds = [step for item in items for step in item.feeds]
    each = len(facts.prompt) + 3  # the prompt, and its last step is the first of four
    assert len(feeds) == each * 3
    names = {spec.name for spec in ENGLISH.parts["decoder"].inputs}
    assert all(set(step) == names and len(step) == len(names) for step in feeds)
    positions = [int(step["position"][0]) for step in items[0].feeds]
    assert positions[: len(facts.prompt)] == list(range(len(facts.prompt)))
    assert positions == sorted(set(positions))
    last = items[0].feeds[-1]
    assert not last["past_key_0"][:, :, positions[-1] :].any()
    assert last["past_key_0"][:, :, : positions[-1]].any(axis=(0, 1, 3)).all()
    with open_onnx(files["decoder"], library="onnxruntime") as session:
        outputs = outputs_of(session, feeds)
    # The steps are of the sequence: the model knows most of the words that follow.
    ends = outputs["logits"][each - 1 :: each]
    assert np.mean([logits.argmax() == facts.end for logits in ends]) > 0.5
    given = Samples(feeds, split(items, note="test").report.described)
    metric = ENGLISH.parts["decoder"].metric(
        MetricContext("decoder", given, files, whisper_bundle.folder)
    )
    same = metric.figures(outputs, outputs)
    assert same["token_agreement"] == 1.0
    assert same["logits.cosine_min"] == pytest.approx(1.0)
    broken = {**outputs, "logits": [np.full_like(a, np.nan) for a in outputs["logits"]]}
    figures = metric.figures(outputs, broken)
    assert figures["token_agreement"] == 0.0
    assert figures["logits.cosine_min"] == 0.0


# Where weights come from.


@pytest.fixture
def hub_folder(tmp_path, state, facts):
    """A folder as the hub has it."""
    package = whisper.PACKAGED.locate().parent
    save_file(
        {k: np.ascontiguousarray(v) for k, v in state.items()}, tmp_path / "model.safetensors"
    )
    shutil.copyfile(package / "tokenizer.json", tmp_path / "tokenizer.json")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    told = {
        "suppress_tokens": list(facts.suppress),
        "begin_suppress_tokens": list(facts.suppress_first),
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(told))
    return tmp_path


def test_a_folder_as_the_hub_has_it_gives_the_same(hub_folder, facts):
    loaded, packaged = ENGLISH.load(str(hub_folder)), ENGLISH.load("package")
    assert loaded.weights.licence == "not stated: see the source"
    assert "CTranslate2" in packaged.weights.note
    for part in PARTS:
        for (name, a), (other, b) in zip(
            loaded.modules[part].named_parameters(),
            packaged.modules[part].named_parameters(),
            strict=True,
        ):
            assert name == other
            assert torch.equal(a, b), name
    assert loaded.assets[GENERATION] == packaged.assets[GENERATION]
    assert json.loads(loaded.assets[GENERATION])["suppress"] == list(facts.suppress)


def test_weights_of_another_size_are_refused(hub_folder, state):
    cut = {k: np.ascontiguousarray(v) for k, v in state.items() if "layers.3" not in k}
    save_file(cut, hub_folder / "model.safetensors")
    with pytest.raises(ArtefactError, match="do not fit Whisper"):
        ENGLISH.load(str(hub_folder))


def test_a_folder_without_its_other_files_is_refused(hub_folder):
    tokens = hub_folder / "tokenizer.json"
    tokens.write_text('{"added_tokens": []}')
    with pytest.raises(InputError, match=r"gives the token <\|endoftext\|> the id None"):
        ENGLISH.load(str(hub_folder))
    tokens.write_text("no JSON")
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read"):
        ENGLISH.load(str(hub_folder))
    tokens.unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read"):
        ENGLISH.load(str(hub_folder))
    (hub_folder / "generation_config.json").unlink()
    with pytest.raises(InputError, match="which tokens are suppressed"):
        ENGLISH.load(str(hub_folder))


def test_a_ctranslate2_file_of_another_model_is_refused(tmp_path):
    path = tmp_path / "model.bin"
    # Version 6, an empty specification of revision 1, no variables and no aliases.
    path.write_bytes(bytes.fromhex("06000000 0100 00 01000000 00000000 00000000"))
    with pytest.raises(InputError, match="no Whisper of 4 layers"):
        state_of_ctranslate2(path, 4)


def test_a_key_with_a_bias_is_refused(monkeypatch):
    from jetlift.export import ctranslate2

    path = whisper.PACKAGED.locate()
    file = ctranslate2.read(path)
    file.variables["encoder/layer_1/self_attention/linear_0/bias"] = np.ones(1152, np.float16)
    monkeypatch.setattr(ctranslate2, "read", lambda _path: file)
    with pytest.raises(InputError, match="key without bias in encoder/layer_1"):
        state_of_ctranslate2(path, 4)
