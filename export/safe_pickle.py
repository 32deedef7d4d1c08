"""Arrays out of checkpoints that are pickles, and nothing else out of them.

A pickle is a program: reading one may run anything. Detectron2's checkpoints are pickles of numpy
arrays (`.pkl`) or torch's files (`.pth`), so they are read here under these rules.

Rules:
    Z1  A `.pkl` is read by an unpickler that knows what numpy arrays are made of and
        `collections.OrderedDict`. Any other name in the file is refused before it is imported.
    Z2  These names stand for small functions of this file, which check what they are given: an
        array begins empty, as numpy writes it, and its type is a plain number or bool.
    Z3  A `.pth` is read by torch's own reader of weights alone (`weights_only=True`).
    Z4  What comes back is a dictionary of arrays by name. A file that holds anything else is
        refused, as are arrays of objects.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from jetlift.runtime.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    Arrays = dict[str, npt.NDArray[Any]]

SUFFIXES = (".pkl", ".pth")
MODEL = "model"  # where detectron2 keeps the weights; the rest is its trainer's
_KINDS = "fiub"
_CONVERT = (
    "Where you trust the file, convert it once with: "
    "python -c \"import sys, torch; m = torch.load(sys.argv[1], weights_only=False)['model']; "
    "torch.save({'model': {k: torch.as_tensor(v) for k, v in m.items()}}, sys.argv[2])\" "
    "OLD.pth NEW.pth"
)
# What the unpickler, numpy and torch raise on files that are damaged or made to harm.
_DAMAGE = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    MemoryError, OverflowError, RuntimeError,
)  # fmt: skip


def read_arrays(path: Path) -> Arrays:
    """The weights of a checkpoint, floats in float32 whatever they are stored in.

    Args:
        path: A `.pkl` or `.pth` file, of weights by name or of these under the key `model`.

    Raises:
        InputError: There is no such file, or it has another suffix.
        ArtefactError: It holds more than arrays, or is damaged.
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        raise InputError(f"{path} is no checkpoint", expected="A file *.pkl or *.pth")
    try:
        content = _read_pkl(path) if path.suffix == ".pkl" else _read_pth(path)
    except _DAMAGE as error:
        raise ArtefactError(
            f"{path} is not read: {(str(error) or type(error).__name__).splitlines()[0]}",
            expected="Arrays alone: a pickle that asks for more could run anything",
            do=_CONVERT,
        ) from error
    weights = content.get(MODEL, content) if isinstance(content, dict) else content
    if not isinstance(weights, dict) or not weights:
        raise _no_arrays(path, "it holds no weights by name")
    return {_name(path, name): _array(path, name, value) for name, value in weights.items()}


def _read_pkl(path: Path) -> Any:  # noqa: ANN401 - whatever it holds is checked by the caller
    with path.open("rb") as file:
        return _Unpickler(file, encoding="latin1").load()


def _read_pth(path: Path) -> Any:  # noqa: ANN401 - as before
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)  # Z3


class _Unpickler(pickle.Unpickler):  # Z1
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - a name of the table
        found = _KNOWN.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401 - as pickle declares it
        raise pickle.UnpicklingError(f"it refers to {pid!r} outside of it")


def _number_type(name: str, *_flags: object) -> np.dtype[Any]:  # Z2
    found = np.dtype(str(name), copy=True)  # a copy: its byte order is still to be told
    if found.kind not in _KINDS or found.names is not None:
        raise pickle.UnpicklingError(f"it holds an array of {name}")
    return found


def _empty(kind: object, shape: object, code: object) -> npt.NDArray[Any]:  # Z2
    if kind is not _Array or shape != (0,) or code not in (b"b", "b"):
        raise pickle.UnpicklingError("it holds an array that numpy did not write")
    return np.zeros(0, np.int8)


def _from_buffer(
    data: object, kind: np.dtype[Any], shape: object, order: object
) -> npt.NDArray[Any]:
    if not isinstance(data, bytes | bytearray) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("it holds an array that numpy did not write")
    line = np.frombuffer(bytes(data), _number_type(kind.str))
    return np.asarray(line.reshape(shape, order="F" if order == "F" else "C"))


def _scalar(kind: np.dtype[Any], content: bytes | str) -> Any:  # noqa: ANN401 - a number
    data = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(data, _number_type(kind.str), 1)[0]


def _bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""  # how old protocols write the content of an empty array


class _Array:
    """Stands for numpy.ndarray, so that no pickle can call it."""

    def __new__(cls) -> NoReturn:
        raise pickle.UnpicklingError("it makes an array in a way that numpy does not")


_KNOWN: Mapping[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _number_type,
    ("_codecs", "encode"): _bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): OrderedDict,
}


def _name(path: Path, name: object) -> str:
    if not isinstance(name, str):
        raise _no_arrays(path, f"one of its names is {name!r}")
    return name


def _array(path: Path, name: object, value: object) -> npt.NDArray[Any]:  # Z4
    value = _of_torch(value) if hasattr(value, "detach") else value
    array = np.asarray(value) if isinstance(value, np.ndarray | np.generic) else None
    if array is None or array.dtype.kind not in _KINDS or array.dtype.names is not None:
        raise _no_arrays(path, f"{name} is no array of numbers")
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _of_torch(tensor: Any) -> npt.NDArray[Any]:  # noqa: ANN401 - torch is imported where needed
    whole = tensor.detach()
    return np.asarray(whole.float() if whole.is_floating_point() else whole)


def _no_arrays(path: Path, why: str) -> ArtefactError:
    return ArtefactError(
        f"{path} is not read: {why}", expected="Arrays by name, or these under the key 'model'"
    )
