from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from jetlift.runtime import masks
from jetlift.runtime.errors import InputError, UsageError

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def test_the_form_is_cocos() -> None:
    # The example of cocoapi's common/maskApi.h: M=[0 0 1 1 1 0 1] is [2 3 1 1], and
    # M=[1 1 1 1 1 1 0] is [0 6 1].
    for line, counts in (([0, 0, 1, 1, 1, 0, 1], [2, 3, 1, 1]), ([1] * 6 + [0], [0, 6, 1])):
        code = masks.encode(np.array(line, bool)[:, None])
        assert code == {"size": [7, 1], "counts": counts}


def test_runs_go_down_the_columns() -> None:
    mask = np.array([[1, 0, 0], [1, 0, 1]], bool)
    assert masks.encode(mask) == {"size": [2, 3], "counts": [0, 2, 3, 1]}


@given(MASKS)
def test_a_mask_comes_back_and_its_counts_fill_it(mask: np.ndarray) -> None:
    code = masks.encode(mask)
    np.testing.assert_array_equal(masks.decode(code), mask)
    assert sum(code["counts"]) == mask.size
    assert all(count > 0 for count in code["counts"][1:])
    assert sum(code["counts"][1::2]) == mask.sum()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools' own
@given(MASKS)
def test_pycocotools_reads_it(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    packed = coco.frPyObjects(masks.encode(mask), *mask.shape)
    np.testing.assert_array_equal(coco.decode(packed).astype(bool), mask)


def test_what_is_no_mask_is_refused() -> None:
    with pytest.raises(UsageError, match="uint8"):
        masks.encode(np.zeros((2, 2), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="hold 3 pixels"):
        masks.decode({"size": [2, 2], "counts": [1, 2]})
    with pytest.raises(InputError, match="4 pixels"):
        masks.decode({"size": [2, 2], "counts": [5, -1]})
