"""What OpenVINO's Python binding has to do once before threads use it.

The first `Tensor` made of a numpy array sets something up in the binding. Two threads that make
their first at the same time wait for each other for ever (seen with 2026.4.1: both stand in
`openvino.utils.data_helpers.data_dispatcher`, no thread gets the interpreter's lock). So one is
made before a Core is handed out, by one thread at a time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from types import ModuleType

_lock = threading.Lock()


def make_first_tensor(openvino: ModuleType) -> None:
    """Make a tensor of an array, so that threads may do so at once from now on."""
    with _lock:
        openvino.Tensor(np.zeros(1, np.float32), shared_memory=True)
