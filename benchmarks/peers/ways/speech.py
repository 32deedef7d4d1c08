"""Sound in, words out: the whole task from samples at 16 kHz to text.

An input has `samples`, float32 [n] each of names `samples_0`, `samples_1`, ...: a run hears all.
All take the likeliest words with time stamps, no context between windows, and try nothing twice.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Inputs = Sequence[Mapping[str, Any]]
    Arguments = Mapping[str, Any]
    Run = Callable[[int], Mapping[str, Any]]

_RATE_HZ = 16_000
# Whisper's English vocabulary: <|endoftext|>, <|startoftranscript|>, <|notimestamps|>.
_END, _START, _UNTIMED = 50256, 50257, 50362
_MOST_TOKENS = 224


def jetlift(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """Jetlift's transcription, all parts in one precision."""
    bundle = importlib.import_module("jetlift.runtime.bundle").Bundle.open(arguments["bundle"])
    opening: Any = importlib.import_module("jetlift.runtime.session").open_session
    sessions = {
        part: opening(bundle, part, arguments["precision"], target="cpu", threads=threads)
        for part in ("encoder", "cross", "decoder")
    }
    task = importlib.import_module("jetlift.runtime.tasks.transcribe").TranscribeTask(
        bundle, sessions["encoder"], sessions, temperatures=(0.0,)
    )
    sound: Any = importlib.import_module("jetlift.runtime.audio").Sound
    item: Any = importlib.import_module("jetlift.runtime.sounds").SoundItem

    def hear(samples: Any) -> str:  # noqa: ANN401
        return str(task.process(item("sound", 0, sound(samples, _RATE_HZ))).fields["text"])

    return _hearing(inputs, hear)


def faster_whisper(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """faster-whisper on a CTranslate2 folder of the very weights."""
    library: Any = importlib.import_module("faster_whisper")
    model = library.WhisperModel(
        arguments["folder"], device="cpu", compute_type=arguments["compute"], cpu_threads=threads,
        num_workers=1, local_files_only=True,
    )  # fmt: skip

    def hear(samples: Any) -> str:  # noqa: ANN401
        segments, _ = model.transcribe(
            samples, language="en", beam_size=1, best_of=1, temperature=0.0,
            condition_on_previous_text=False,
        )  # fmt: skip
        return " ".join(segment.text for segment in segments)

    return _hearing(inputs, hear)


def openai_whisper(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """openai-whisper on a checkpoint made of the very weights."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    library: Any = importlib.import_module("whisper")
    if not Path(arguments["file"]).is_file():  # it would be looked for on the network
        raise FileNotFoundError(arguments["file"])
    model = library.load_model(arguments["file"], device="cpu")

    def hear(samples: Any) -> str:  # noqa: ANN401
        found = model.transcribe(
            samples, language="en", temperature=0.0, fp16=False, condition_on_previous_text=False
        )
        return str(found["text"])

    return _hearing(inputs, hear)


def transformers(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """Transformers' Whisper, eager, one window of 30 s."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    library: Any = importlib.import_module("transformers")
    folder = arguments["folder"]
    model = library.WhisperForConditionalGeneration.from_pretrained(folder, local_files_only=True)
    features = library.WhisperFeatureExtractor()
    tokenizer: Any = importlib.import_module("tokenizers").Tokenizer.from_file(
        str(Path(folder) / "tokenizer.json")
    )
    settings = {
        "is_multilingual": False, "decoder_start_token_id": _START, "eos_token_id": _END,
        "pad_token_id": _END, "no_timestamps_token_id": _UNTIMED,
        "suppress_tokens": arguments["suppress"],
        "begin_suppress_tokens": arguments["suppress_first"], "max_initial_timestamp_index": 50,
        "return_timestamps": True,
    }  # fmt: skip
    for name, value in settings.items():
        setattr(model.generation_config, name, value)

    def hear(samples: Any) -> str:  # noqa: ANN401
        pixels = features(samples, sampling_rate=_RATE_HZ, return_tensors="pt").input_features
        with torch.inference_mode():
            tokens = model.generate(
                pixels, return_timestamps=True, do_sample=False, num_beams=1,
                max_new_tokens=_MOST_TOKENS,
            )  # fmt: skip
        return str(tokenizer.decode([item for item in tokens[0].tolist() if item < _END]))

    return _hearing(inputs, hear)


def _hearing(inputs: Inputs, hear: Callable[[Any], str]) -> Run:
    sounds = [[given[name] for name in sorted(given)] for given in inputs]
    return lambda index: {"texts": [hear(samples) for samples in sounds[index]]}


WAYS: dict[str, Callable[[Inputs, int, Arguments], Run]] = {
    "jetlift": jetlift,
    "faster-whisper": faster_whisper,
    "openai-whisper": openai_whisper,
    "transformers": transformers,
}
