"""Text in, embeddings out, words cut into tokens by each way itself.

An input has `texts`, a str array: one sentence or a batch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Inputs = Sequence[Mapping[str, Any]]
    Arguments = Mapping[str, Any]
    Run = Callable[[int], Mapping[str, Any]]


def jetlift(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """Jetlift's encoder of texts: tokens and engine, a batch in one run."""
    bundle = importlib.import_module("jetlift.runtime.bundle").Bundle.open(arguments["bundle"])
    part = importlib.import_module("jetlift.runtime.tasks").input_part(bundle, "embed")
    session = importlib.import_module("jetlift.runtime.session").open_session(
        bundle, part, arguments["precision"], target="cpu", threads=threads
    )
    spec = bundle.part(part)[1].preprocess
    preparer: Any = importlib.import_module("jetlift.runtime.text").TextPreparer
    prepare = preparer(spec, bundle.path(spec.tokenizer))
    lists = _lists(inputs)
    return lambda index: dict(session.run(prepare(lists[index])))


def sentence_transformers(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """sentence-transformers on a folder of the very weights."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    library: Any = importlib.import_module("sentence_transformers")
    extra: dict[str, Any] = {}
    if arguments["backend"] == "onnx":
        options = importlib.import_module("onnxruntime").SessionOptions()
        options.intra_op_num_threads = threads
        extra = {"file_name": arguments["file"], "session_options": options}
    model = library.SentenceTransformer(
        arguments["folder"], device="cpu", backend=arguments["backend"], model_kwargs=extra,
        local_files_only=True,
    )  # fmt: skip
    lists = _lists(inputs)
    return lambda index: {"embedding": model.encode(lists[index], batch_size=len(lists[index]))}


def optimum(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """optimum-onnx, with the mean of the tokens taken by hand."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    ort: Any = importlib.import_module("onnxruntime")
    transformers: Any = importlib.import_module("transformers")
    library: Any = importlib.import_module("optimum.onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    folder = arguments["folder"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = library.ORTModelForFeatureExtraction.from_pretrained(
        folder, subfolder="onnx", file_name="model.onnx", session_options=options,
        local_files_only=True,
    )  # fmt: skip
    lists = _lists(inputs)

    def run(index: int) -> Mapping[str, Any]:
        tokens = tokenizer(lists[index], padding=True, truncation=True, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        return {"embedding": torch.nn.functional.normalize(mean).numpy()}

    return run


def _lists(inputs: Inputs) -> list[list[str]]:
    return [[str(text) for text in given["texts"]] for given in inputs]


WAYS: dict[str, Callable[[Inputs, int, Arguments], Run]] = {
    "jetlift": jetlift,
    "sentence-transformers": sentence_transformers,
    "optimum": optimum,
}
