"""A picture in, boxes out: the whole task with resizing and suppression.

An input has `image_bgr`, uint8 [height, width, 3].
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Inputs = Sequence[Mapping[str, Any]]
    Arguments = Mapping[str, Any]
    Run = Callable[[int], Mapping[str, Any]]

# Read when the package is imported: without these it asks the network, and installs what it lacks.
_OFFLINE = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}


def jetlift(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """Jetlift's detection."""
    load: Any = importlib.import_module("jetlift").load
    task = load(
        arguments["bundle"], target="cpu", precision=arguments["precision"], threads=threads
    )

    def run(index: int) -> Mapping[str, Any]:
        return {"boxes_xyxy": task(inputs[index]["image_bgr"])["boxes_xyxy"]}

    return run


def ultralytics(inputs: Inputs, threads: int, arguments: Arguments) -> Run:
    """Ultralytics' predict on a network of its own, weights drawn at random."""
    os.environ.update(_OFFLINE)
    torch: Any = importlib.import_module("torch")
    library: Any = importlib.import_module("ultralytics")
    model = library.YOLO(arguments["model"])
    settings = {"device": "cpu", "imgsz": arguments["size"], "verbose": False}
    model.predict(inputs[0]["image_bgr"], **settings)
    torch.set_num_threads(threads)  # it sets its own when it begins

    def run(index: int) -> Mapping[str, Any]:
        (found,) = model.predict(inputs[index]["image_bgr"], **settings)
        return {"boxes_xyxy": found.boxes.xyxy.numpy()}

    return run


WAYS: dict[str, Callable[[Inputs, int, Arguments], Run]] = {
    "jetlift": jetlift,
    "ultralytics": ultralytics,
}
