"""Scenes with synthetic defects, and the benchmark on a drawn one with a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.textures import texture
from helpers.tiny_bundle import tiny_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.benchmarks import anomaly_scenes as scenes
from jetlift.benchmarks import anomaly_scenes_bench as bench
from jetlift.benchmarks import anomaly_table as table
from jetlift.runtime.errors import InputError
from jetlift.runtime.session import open_session


def drawn(seed: int = 0, size_wh: tuple[int, int] = (160, 128)) -> np.ndarray:
    """A picture with some structure everywhere."""
    random = np.random.default_rng(seed)
    rough = random.integers(20, 235, (8, 10, 3), dtype=np.uint8)
    return cv2.resize(rough, size_wh, interpolation=cv2.INTER_CUBIC)


SCENE = scenes.Scene("drawn", drawn())


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(scenes.KINDS), st.sampled_from((0.005, 0.01, 0.04)), st.integers(0, 99))
def test_a_defect_has_its_size_its_place_and_shows(
    kind: scenes.Kind, share: float, number: int
) -> None:
    shot = SCENE.defective(kind, share, number)
    height, width = shot.mask.shape
    assert shot.image_bgr.shape == (height, width, 3)
    assert shot.mask.mean() == pytest.approx(share, rel=scenes.AREA_TOLERANCE + 1e-9)
    rows, columns = np.nonzero(shot.mask)
    middle = 0.4 * min(height, width) + 1
    assert max(abs(rows - height / 2).max(), abs(columns - width / 2).max()) <= middle


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_a_defect_changes_what_is_under_its_mask_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, kind: scenes.Kind
) -> None:
    monkeypatch.setattr(scenes, "_photographed", lambda scene, _: scene)
    plain: list[np.ndarray] = []
    real = scenes._shifted
    monkeypatch.setattr(
        scenes, "_shifted", lambda picture, random: plain.append(real(picture, random)) or plain[-1]
    )
    shot = SCENE.defective(kind, 0.02, 3)
    changed = cv2.absdiff(shot.image_bgr, plain[0])
    assert not changed[~shot.mask].any()
    assert changed[shot.mask].mean() >= scenes.LEAST_CHANGE


def test_shots_are_repeatable_and_differ_by_role_and_number() -> None:
    first, again = (scenes.Scene("drawn", drawn()).good("fit", 3) for _ in range(2))
    np.testing.assert_array_equal(first.image_bgr, again.image_bgr)
    others = [SCENE.good("test", 3), SCENE.good("fit", 4), SCENE.defective("blot", 0.01, 3)]
    assert all((first.image_bgr != other.image_bgr).any() for other in others)
    assert not first.mask.any()


def test_good_shots_shift_by_no_more_than_two_percent() -> None:
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[98:103, 147:154] = 255
    found = []
    for number in range(40):
        bright = scenes.Scene("dot", picture).good("fit", number).image_bgr.mean(axis=2) > 120
        rows, columns = np.nonzero(bright)
        found.append((columns.mean(), rows.mean()))
    across, down = np.ptp(np.array(found), axis=0)
    assert 4 < across <= 2 * 0.02 * 300 + 1
    assert 2 < down <= 2 * 0.02 * 200 + 1


def test_a_defect_that_nobody_could_see_is_refused() -> None:
    plain = scenes.Scene("grey", np.full((120, 120, 3), 128, np.uint8))
    with pytest.raises(InputError, match=r"No copied defect on 1\.00% of scene grey"):
        plain.defective("copied", 0.01, 0)
    with pytest.raises(InputError, match="At least 64"):
        scenes.Scene("small", np.zeros((63, 80, 3), np.uint8))


def test_scenes_are_spaced_evenly_after_those_that_calibrated(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture")
    chosen = bench.choose_scenes(tmp_path, 4, 8)
    assert [path.stem for path in chosen] == ["09", "12", "15", "18"]
    with pytest.raises(InputError, match="4 pictures after the first 16"):
        bench.choose_scenes(tmp_path, 5, 16)


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    tiny_bundle(folder, precisions=("fp32",))
    return folder


def test_a_large_defect_in_a_drawn_scene_is_found_by_both_methods(bundle_folder: Path) -> None:
    """The short form: one drawn scene, few shots, a tiny model with drawn weights."""
    from jetlift.runtime.bundle import Bundle

    bundle = Bundle.open(bundle_folder)
    how = bench.Settings(fit=12, good=6, per_kind=2, shares=(0.08,))
    scene = scenes.Scene("texture", texture(0, (160, 128)))
    with bench.Remembering(open_session(bundle, "image", "fp32", target="cpu")) as session:
        for method in ("padim", "patchcore"):
            row = bench.judge_scene(scene, bundle, session, "fp32", method, how)  # type: ignore[arg-type]
            (size,) = row["sizes"]
            assert (size["pictures"], size["defective"]) == (16, 10)
            assert set(size["kinds"]) == set(scenes.KINDS)
            assert size["kinds"]["blot"] == 1.0
            assert size["image_auroc"] > 0.9
            assert size["pixel_auroc"] > 0.8


def test_the_benchmark_resumes_and_says_whether_its_target_is_met(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    pytest.importorskip("matplotlib")
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    for number in range(2):
        cv2.imwrite(str(pictures / f"{number}.png"), drawn(number))
    few = bench.Settings(fit=4, good=3, per_kind=1, shares=(0.02, 0.06))
    monkeypatch.setattr(bench, "Settings", lambda: few)
    command = [str(pictures), str(bundle_folder), "--scenes", "2", "--skip", "0", "-o", str(out)]
    assert bench.main([*command, "--from", "1"]) == 0
    lines = (out / "scenes.jsonl").read_text()
    assert len(lines.splitlines()) == 4
    assert {p.name for p in out.iterdir()} == {"scenes.jsonl", "scenes.md", "scenes.svg"}
    capsys.readouterr()

    spoilt = [json.loads(line) for line in lines.splitlines()]
    spoilt[1]["sizes"][1]["image_auroc"] = 0.4
    text = "".join(json.dumps(row) + "\n" for row in spoilt)
    (out / "scenes.jsonl").write_text(text)
    assert bench.main([*command, "--from", "0.05"]) == 1
    assert (out / "scenes.jsonl").read_text() == text  # nothing was measured again
    assert f"{spoilt[1]['method']}, {spoilt[1]['scene']}, 6.00%: 0.400" in capsys.readouterr().out
    assert bench.main([str(tmp_path / "none"), str(bundle_folder), "-o", str(out)]) == 2


def row(scene: str, *images: float) -> dict:
    sizes = [
        {"share": share, "image_auroc": image, "pixel_auroc": image, "kinds": {"blot": image - 0.1}}
        for share, image in zip((0.005, 0.01), images, strict=True)
    ]
    return {
        "model": "m", "precision": "int8", "method": "padim", "scene": scene, "sizes": sizes,
    }  # fmt: skip


def test_tables_lead_with_the_weakest_scene() -> None:
    rows = [row("a", 0.97, 1.0), row("b", 0.93, 0.96), row("a", 0.99, 1.0)]
    text = table.to_markdown(rows, 0.01)
    assert "in 2 scenes" in text
    assert "| 0.5 (not asked for) | 0.930 (b) | 0.960 | 0.830 (blot) | 0.930 | 0.960 |" in text
    assert "| 1 | 0.960 (b) | 0.980 | 0.860 (blot) |" in text
    assert text.index("| b | 0.930 / 0.930 |") < text.index("| a | 0.990 / 0.990 |")
    assert table.missed(rows, 0.01) == []
    assert table.missed(rows, 0.005) == ["m int8 padim, b, 0.50%: 0.930"]
