"""Where Stable Diffusion's weights come from: a folder as diffusers saves it, or a seed.

The folder has text_encoder/, unet/, vae/, scheduler/ and tokenizer/. The safety checker of version
1 is left out: it looks at finished pictures and is no part of their making.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jetlift.export import random_weights, weights
from jetlift.export.recipes import clip_bpe
from jetlift.export.recipes.published import check_config, read_json
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import ArtefactError, InputError
from jetlift.runtime.manifest import Weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

_MODEL = "diffusion_pytorch_model.safetensors"
FILES = ("text_encoder/model.safetensors", f"unet/{_MODEL}", f"vae/{_MODEL}")
SCHEDULER = "scheduler/scheduler_config.json"
_HUB_PATTERNS = ("*/config.json", SCHEDULER, "tokenizer/*", *FILES)
_AS_SAVED = f"A folder as diffusers saves it, with {', '.join(FILES)}, {SCHEDULER} and tokenizer/"
# Attention's layers in the VAE as they were called before diffusers 0.12 and still are in version
# 1.5's file (diffusers 0.42.1, src/diffusers/models/modeling_utils.py: deprecated attention block).
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# What a scheduler_config.json may switch on that no scheduler here can do.
_NOT_DONE = ("trained_betas", "rescale_betas_zero_snr", "thresholding", "use_karras_sigmas",
             "use_exponential_sigmas", "use_beta_sigmas")  # fmt: skip
# As text_encoder/config.json states them. Nothing reads them: the tokenizer has its own.
_TOKENS = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}


@dataclass(frozen=True)
class Configs:
    """The three models in transformers' and diffusers' words, as far as these size them."""

    text: Mapping[str, Any]
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]


@dataclass(frozen=True)
class Models:
    """transformers' CLIPTextModel, diffusers' UNet2DConditionModel and AutoencoderKL."""

    text: Any
    unet: Any
    vae: Any


@dataclass(frozen=True)
class Schedule:
    """How the model was trained; as version 1.5's scheduler_config.json has it by default.

    Attributes: as in runtime.task_forms.Diffusion.
    """

    train_steps: int = 1000
    beta_schedule: Any = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    prediction: Any = "epsilon"
    spacing: Any = None
    steps_offset: int = 1
    final_alpha_one: bool = False


def drawn(configs: Configs, seed: int) -> Models:
    """The models with random weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    return Models(
        random_weights.drawn(CLIPTextModel, CLIPTextConfig(**_TOKENS, **configs.text), seed),
        random_weights.initialised(lambda: UNet2DConditionModel.from_config(configs.unet), seed),
        random_weights.initialised(lambda: AutoencoderKL.from_config(configs.vae), seed),
    )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder."""

    folder: Path

    @classmethod
    def open(cls, source: str) -> Checkpoint:
        """Find a folder, or take one from the hub.

        Raises:
            JetliftError: It cannot be had, or a file is missing in it.
        """
        folder = weights.local_or_hub(source, _HUB_PATTERNS)
        missing = [name for name in (*FILES, SCHEDULER) if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder} has no {', '.join(missing)}", expected=_AS_SAVED)
        return cls(folder)

    def models(self, wanted: Configs, title: str) -> Models:
        """The three models, held to the recipe's sizes; every key of the files is used once.

        Raises:
            InputError: A config is missing or of another size.
            ArtefactError: A key is missing, left over or of another shape.
        """
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        for name, config in (
            ("text_encoder", wanted.text), ("unet", wanted.unet), ("vae", wanted.vae)
        ):  # fmt: skip
            check_config(self.folder / name, config)
        text, unet, vae = (self.folder / name for name in FILES)
        text_config = CLIPTextConfig.from_pretrained(text.parent, local_files_only=True)
        state = clip_bpe.without_positions(text)
        return Models(
            weights.pretrained(CLIPTextModel, text_config, state, f"{title}'s text encoder"),
            _filled(UNet2DConditionModel, unet, weights.read_safetensors(unet), title),
            _filled(AutoencoderKL, vae, renamed(weights.read_safetensors(vae)), title),
        )

    def schedule(self) -> Schedule:
        """How it was trained.

        Raises:
            InputError: scheduler_config.json asks for what the schedulers here cannot do.
        """
        found = read_json(self.folder / SCHEDULER)
        asked = [name for name in _NOT_DONE if found.get(name)]
        usual = Schedule()
        made = Schedule(
            train_steps=found.get("num_train_timesteps", usual.train_steps),
            beta_schedule=found.get("beta_schedule", "linear"),
            beta_start=found.get("beta_start", 0.0001),
            beta_end=found.get("beta_end", 0.02),
            prediction=found.get("prediction_type", usual.prediction),
            spacing=found.get("timestep_spacing"),
            steps_offset=found.get("steps_offset", 0),
            final_alpha_one=found.get("set_alpha_to_one", True),
        )
        known = {
            "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
            "prediction": ("epsilon", "v_prediction", "sample"),
            "spacing": (None, "leading", "trailing", "linspace"),
        }
        asked += [key for key, values in known.items() if getattr(made, key) not in values]
        if asked:
            raise InputError(
                f"{self.folder / SCHEDULER} asks for {', '.join(asked)} as no scheduler here does",
                expected="A schedule as version 1.5 or 2.1 of Stable Diffusion has it",
            )
        return made

    def tokenizer(self, pad_id: int) -> bytes:
        """tokenizer.json: the checkpoint's own, or made of its vocab.json and merges.txt.

        Raises:
            InputError: There is neither.
            ArtefactError: The files contradict each other, or prompts are filled up otherwise.
        """
        folder = self.folder / "tokenizer"
        vocabulary = read_json(folder / "vocab.json")
        self._check_padding(folder, vocabulary, pad_id)
        if (folder / "tokenizer.json").is_file():
            return (folder / "tokenizer.json").read_bytes()
        try:
            lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise InputError(f"{folder} has no merges.txt", expected=_AS_SAVED) from error
        pairs = [line.split() for line in lines if line.strip() and not line.startswith("#version")]
        made = clip_bpe.tokenizer_json([(pair[0], pair[-1]) for pair in pairs])
        if json.loads(made)["model"]["vocab"] != vocabulary:
            raise ArtefactError(
                f"{folder}/vocab.json numbers its tokens otherwise than merges.txt",
                expected="CLIP's numbers: bytes, bytes that end a word, merges, begin and end",
            )
        return made

    def _check_padding(self, folder: Path, vocabulary: Mapping[str, int], pad_id: int) -> None:
        """Hold the token that fills up short prompts to the recipe's.

        special_tokens_map.json comes first, since in version 2 the two files differ and
        transformers follows it.
        """
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            told = read_json(folder / name).get("pad_token") if (folder / name).is_file() else None
            token = told.get("content") if isinstance(told, dict) else told
            if token is not None and vocabulary.get(token) != pad_id:
                raise ArtefactError(
                    f"{folder / name} fills up prompts with {token!r}",
                    expected=f"Token {pad_id}, as the chosen model was trained",
                )
            if token is not None:
                return

    def describe(self, source: str, hub_id: str, licence: str) -> Weights:
        """The manifest's word on these weights."""
        lines = [f"{sha256_of(self.folder / name)}  {name}\n" for name in FILES]
        known = source.partition("@")[0] == hub_id.partition("@")[0]
        return Weights(
            source=source,
            licence=licence if known else "not stated: see the source",
            sha256=hashlib.sha256("".join(lines).encode()).hexdigest(),
            note=f"Three files; the hash is of sha256sum's lines on {', '.join(FILES)}",
            random=False,
        )


def renamed(state: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """A VAE's weights with attention's layers under their newer names."""
    names = {}
    for name, array in state.items():
        pieces = name.split(".")
        if "attentions" in pieces and pieces[-2] in _OLD_NAMES:
            pieces[-2] = _OLD_NAMES[pieces[-2]]
        names[".".join(pieces)] = array
    return names


def _filled(
    architecture: Any,  # noqa: ANN401 - diffusers ships no types
    file: Path,
    state: Mapping[str, npt.NDArray[Any]],
    title: str,
) -> Any:  # noqa: ANN401 - as before
    """One of diffusers' models with every parameter from a file."""
    import numpy as np
    import torch

    with torch.device("meta"):
        model = architecture.from_config(read_json(file.parent / "config.json"))
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(array.shape) for name, array in state.items()}
    wrong = sorted(set(wanted.items()) ^ set(found.items()))
    if wrong:
        raise ArtefactError(
            f"{file} does not fit {title}: {', '.join(map(str, wrong[:3]))}",
            expected="Every parameter of diffusers' model once, and no other",
        )
    tensors = {name: torch.from_numpy(np.ascontiguousarray(item)) for name, item in state.items()}
    model.load_state_dict(tensors, assign=True)
    return model.eval()
