"""CLIP's checkpoints in open_clip's own names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.checkpoints import documented
from safetensors.torch import save_file
from torch.nn import functional

from jetlift.export import random_weights
from jetlift.export.recipes import clip, clip_bpe, clip_open
from jetlift.runtime.errors import ArtefactError, InputError

SIZE = clip.TINY
TINY = clip.recipe("clip-tiny", "CLIP, tiny", SIZE, "nobody/none", 0)
LENGTHS = {768: 32, 3072: 128, 2304: 96, 512: 24, 2048: 96, 1536: 72, 49408: 1024, 50: 17}
CONFIG = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16,
        },
        "text_cfg": {
            "context_length": 77, "vocab_size": 1024, "width": 24, "heads": 2, "layers": 2,
        },
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711],
    },
}  # fmt: skip


def tiny_state() -> dict[str, torch.Tensor]:
    """Random tensors of the documented names, at TINY's size."""
    generator = torch.Generator().manual_seed(5)
    state = {}
    for name, shape in documented("open_clip-vit-b32").items():
        if ".resblocks." in name and int(name.split(".resblocks.")[1].partition(".")[0]) > 1:
            continue
        axes = [LENGTHS.get(axis, axis) for axis in shape]
        if name == "visual.conv1.weight":
            axes = [32, 3, 8, 8]
        elif name in ("visual.proj", "text_projection"):
            axes = [32 if name == "visual.proj" else 24, 16]
        state[name] = torch.randn(axes, generator=generator) * 0.2
    state["logit_scale"] = torch.tensor(2.5)
    return state


def saved(folder, state, config=CONFIG) -> str:
    folder.mkdir()
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(clip_bpe.tokenizer_json([]))
    return str(folder)


def test_documented_names_become_transformers_own():
    from transformers import CLIPModel

    with torch.device("meta"):
        own = CLIPModel(clip.config_of(clip.B32)).state_dict()
    blank = {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in documented("open_clip-vit-b32").items()
    }
    found = {name: value.shape for name, value in clip_open.renamed(blank).items()}
    assert found == {name: tuple(value.shape) for name, value in own.items()}


def layers(state, start: str, x: torch.Tensor, heads: int, gelu, mask) -> torch.Tensor:
    """Two layers as the paper has them, with torch's own attention."""
    wide = x.shape[-1]
    for number in range(2):

        def of(name: str, number=number) -> torch.Tensor:
            return state[f"{start}transformer.resblocks.{number}.{name}"]

        seen = functional.layer_norm(x, (wide,), of("ln_1.weight"), of("ln_1.bias"))
        seen = seen.transpose(0, 1)
        looked, _ = functional.multi_head_attention_forward(
            seen, seen, seen, wide, heads, of("attn.in_proj_weight"), of("attn.in_proj_bias"),
            bias_k=None, bias_v=None, add_zero_attn=False, dropout_p=0.0,
            out_proj_weight=of("attn.out_proj.weight"), out_proj_bias=of("attn.out_proj.bias"),
            training=False, attn_mask=mask, need_weights=False,
        )  # fmt: skip
        x = x + looked.transpose(0, 1)
        inner = functional.layer_norm(x, (wide,), of("ln_2.weight"), of("ln_2.bias"))
        inner = gelu(functional.linear(inner, of("mlp.c_fc.weight"), of("mlp.c_fc.bias")))
        x = x + functional.linear(inner, of("mlp.c_proj.weight"), of("mlp.c_proj.bias"))
    return x


def norm(state, name: str, x: torch.Tensor) -> torch.Tensor:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return functional.layer_norm(x, (x.shape[-1],), weight, bias)


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("quick", [True, False])
def test_both_encoders_answer_as_these_weights_say(tmp_path, quick):
    state = tiny_state()
    config = json.loads(json.dumps(CONFIG))
    config["model_cfg"] |= {"quick_gelu": True} if quick else {}
    loaded = TINY.load(saved(tmp_path / "open", state, config))
    assert loaded.zero_shot.logit_scale == pytest.approx(np.exp(2.5))

    def gelu(x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x) if quick else functional.gelu(x)

    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    patches = functional.conv2d(pixels, state["visual.conv1.weight"], stride=8)
    patches = patches.flatten(2).transpose(1, 2)
    first = state["visual.class_embedding"].expand(2, 1, -1)
    x = torch.cat((first, patches), dim=1) + state["visual.positional_embedding"]
    x = layers(state, "visual.", norm(state, "visual.ln_pre", x), 2, gelu, None)
    wanted = unit(norm(state, "visual.ln_post", x[:, 0]) @ state["visual.proj"])
    with torch.no_grad():
        got = loaded.modules["image"](pixels)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)

    ids = torch.tensor([[SIZE.end - 1, 5, 6, SIZE.end], [SIZE.end - 1, 9, SIZE.end, 0]])
    x = state["token_embedding.weight"][ids] + state["positional_embedding"][:4]
    behind = torch.full((4, 4), float("-inf")).triu(1)
    x = norm(state, "ln_final", layers(state, "", x, 2, gelu, behind))
    wanted = unit(x[torch.arange(2), torch.tensor([3, 2])] @ state["text_projection"])
    with torch.no_grad():
        got = loaded.modules["text"](ids)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


def test_every_name_is_used_once(tmp_path):
    state = tiny_state()
    for name, told in (("more.weight", "unexpected_keys"), ("visual.ln_pre.bias", "missing_keys")):
        other = dict(state)
        if name in other:
            del other[name]
        else:
            other[name] = torch.zeros(2)
        with pytest.raises(ArtefactError, match=rf"do not fit.*{told}"):
            TINY.load(saved(tmp_path / told, other))


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("model_cfg", "embed_dim"), 512, "embed_dim 512"),
        (("model_cfg", "vision_cfg", "head_width"), 64, r"vision_cfg\.head_width 64"),
        (("model_cfg", "text_cfg", "context_length"), 32, r"text_cfg\.context_length 32"),
        (("preprocess_cfg", "mean"), [0.5, 0.5, 0.5], r"preprocess_cfg\.mean \(0\.5"),
        (("model_cfg",), None, "has no model_cfg"),
    ],
)
def test_another_model_is_refused(tmp_path, place, value, told):
    config = json.loads(json.dumps(CONFIG))
    target = config
    for name in place[:-1]:
        target = target[name]
    target[place[-1]] = value
    with pytest.raises(InputError, match=told):
        TINY.load(saved(tmp_path / "other", tiny_state(), config))


def test_transformers_names_beside_an_open_clip_config_still_load(tmp_path):
    from transformers import CLIPModel

    model = random_weights.drawn(CLIPModel, clip.config_of(SIZE), 3)
    folder = tmp_path / "both"
    saved(folder, tiny_state())
    save_file({k: v.contiguous() for k, v in model.state_dict().items()},
              folder / "model.safetensors")  # fmt: skip
    (folder / "config.json").write_text(model.config.to_json_string())
    loaded = TINY.load(str(folder))
    assert loaded.zero_shot.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))


def test_the_tokenizer_is_made_where_the_folder_has_none(tmp_path):
    folder = saved(tmp_path / "open", tiny_state())
    (tmp_path / "open" / "tokenizer.json").unlink()
    made = TINY.load(folder).assets[clip.TOKENIZER]
    assert made == clip_bpe.tokenizer_json([])  # TINY's merges are none
