from __future__ import annotations

import argparse

import cv2
import numpy as np
import pytest
from helpers import words_bundle

from jetlift.benchmarks import soak_bench as bench


def test_a_short_soak_reads_everything(tmp_path):
    pytest.importorskip("openvino")
    words_bundle.classes_bundle(tmp_path / "bundle")
    picture = tmp_path / "grey.png"
    cv2.imwrite(str(picture), np.full((40, 50, 3), 128, np.uint8))
    asked = argparse.Namespace(
        bundle=tmp_path / "bundle", pictures=[picture], items=200, precision="fp32", threads=1
    )
    done, rss, files, threads = bench.soak(asked)
    assert len(done) == len(rss) == len(files) == len(threads) > 50
    assert done[-1] <= 200
    assert min(rss) > 1e6
    assert max(files) == files[0]
    assert max(threads) == threads[0]


def test_the_slope_is_of_10_000_inferences():
    done = [1000, 2000, 3000]
    assert bench.slope_mb(done, [5e6, 6e6, 7e6]) == pytest.approx(10.0)
    assert bench.slope_mb(done, [5e6, 5e6, 5e6]) == pytest.approx(0.0)
