"""A detector in a loop written by hand, as a good engineer would for one model and one video.

It knows this one model: no checks of inputs, no other layout, nothing closed in order, nothing
counted. Boxes are decoded only where a score is above the threshold, and lines are not flushed.

Rules:
    L1  Its engine is OpenVINO on the same graph with the same properties as jetlift's session; the
        input is shared, and the output is read where it lies.
    L2  Its boxes are those of the YOLOX head (jetlift.runtime.boxes, rules X2 and X3), suppressed
        by OpenCV.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np

from jetlift.runtime.preprocess import fit_inside, prepare_image
from jetlift.runtime.session.openvino import configuration, core
from jetlift.runtime.tasks.detect import read_labels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.manifest import Detection, ImagePreprocess

    Floats = npt.NDArray[np.float32]
    Picture = npt.NDArray[np.uint8]
    Prepare = Callable[[Picture], Floats]


def same_preparation(spec: ImagePreprocess) -> Prepare:
    """The function that jetlift itself prepares pictures with."""
    return lambda image_bgr: prepare_image(image_bgr, spec)


def plain_preparation(spec: ImagePreprocess) -> Prepare:
    """A letterbox by plain `cv2.resize`, whose pixels differ between processors by up to 2."""
    width, height = spec.size_wh

    def prepare(image_bgr: Picture) -> Floats:
        fitted_wh = fit_inside((image_bgr.shape[1], image_bgr.shape[0]), (width, height))
        padded = np.full((height, width, 3), spec.pad_value, np.uint8)
        padded[: fitted_wh[1], : fitted_wh[0]] = cv2.resize(image_bgr, fitted_wh)
        return np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32)

    return prepare


class HandLoop:
    """One model's loop (rules L1 and L2).

    Args:
        bundle: A bundle with a YOLOX detector.
        part: Its detector part.
        threads: Threads of the engine.
        prepare: Makes the input of a picture.
    """

    def __init__(self, bundle: Bundle, part: str, threads: int, prepare: Prepare) -> None:
        described = bundle.part(part)[1]
        spec, head = described.preprocess, described.detection
        if head is None or spec is None or spec.kind != "image":
            raise SystemExit(f"Part {part} of {bundle.manifest.model} is no detector")
        self._head, self._prepare = head, prepare
        self._labels = read_labels(bundle.path(head.labels).read_text(encoding="utf-8"))
        model = core().read_model(str(bundle.path(described.variants["fp32"].file)))
        compiled = core().compile_model(model, "CPU", configuration("f32", threads))
        self._request = compiled.create_infer_request()
        self._input_wh = (spec.size_wh[0], spec.size_wh[1])
        self._corners, self._strides = _grid(self._input_wh, head)

    def run(self, video: Path, out: Path) -> int:
        """Write one line per frame of a video, and say how many."""
        capture = cv2.VideoCapture(str(video))
        count = 0
        with out.open("w", encoding="utf-8") as lines:
            while True:
                delivered, image_bgr = capture.read()
                if not delivered:
                    break
                time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                feeds = {0: self._prepare(np.asarray(image_bgr, np.uint8))}
                self._request.infer(feeds, share_inputs=True, share_outputs=True)
                raw = self._request.get_output_tensor(0).data[0]
                place: dict[str, object] = {"source": str(video), "index": count, "time_s": time_s}
                found = self._found(raw, (image_bgr.shape[1], image_bgr.shape[0]))
                lines.write(json.dumps(place | found) + "\n")
                count += 1
        capture.release()
        return count

    def _found(self, raw: Floats, image_wh: tuple[int, int]) -> dict[str, object]:
        classes = raw[:, 5:]
        ids = classes.argmax(axis=1)
        scores = raw[:, 4] * classes[np.arange(len(raw)), ids]
        above = np.flatnonzero(scores >= self._head.score_threshold)
        rows, scores, ids = raw[above], scores[above], ids[above]
        centres = (rows[:, :2] + self._corners[above]) * self._strides[above]
        sizes = np.exp(rows[:, 2:4]) * self._strides[above]
        corners = centres - sizes / 2
        kept = np.asarray(
            cv2.dnn.NMSBoxesBatched(
                np.concatenate([corners, sizes], axis=1).tolist(), scores.tolist(), ids.tolist(),
                self._head.score_threshold, self._head.iou_threshold,
            ),
            np.int64,
        )  # fmt: skip
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        factor = np.divide(image_wh, fit_inside(image_wh, self._input_wh))
        edges = np.concatenate([corners, corners + sizes], axis=1)[kept] * np.tile(factor, 2)
        return {
            "boxes_xyxy": np.clip(edges, 0, np.tile(image_wh, 2)).round(2).tolist(),
            "scores": scores[kept].round(4).tolist(),
            "labels": [self._labels[label] for label in ids[kept]],
            "label_ids": ids[kept].tolist(),
        }


def _grid(size_wh: tuple[int, int], head: Detection) -> tuple[Floats, Floats]:
    """Corner of every cell, and its stride, made once."""
    corners, strides = [], []
    for stride in head.strides:
        columns, rows = size_wh[0] // stride, size_wh[1] // stride
        across, down = np.meshgrid(np.arange(columns), np.arange(rows))
        corners.append(np.stack([across, down], axis=2).reshape(-1, 2))
        strides.append(np.full((columns * rows, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)
