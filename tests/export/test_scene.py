"""The synthetic scene: its geometry, its light, its files."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from jetlift.export import scene
from jetlift.export.radiance import read_views
from jetlift.runtime.errors import InputError, UsageError


def test_solids_are_hit_where_they_are():
    ball = scene.Sphere((0, 0, 0), 1.0, (1, 0, 0))
    box = scene.Box((-1, -1, -1), (1, 1, 1), (1, 0, 0))
    origins = np.array([[0.0, 0, 3], [3.0, 0, 3], [0.0, 0, 0]])
    down = np.tile([0.0, 0, -1], (3, 1))
    np.testing.assert_allclose(ball.hit(origins, down)[0], 2)
    np.testing.assert_allclose(box.hit(origins, down)[0], 2)
    assert (ball.hit(origins, down)[1:] > 1e6).all()  # beside it, and from inside
    assert (box.hit(origins, down)[1:] > 1e6).all()
    np.testing.assert_allclose(ball.normal(np.array([[0.0, 0, 1]])), [[0, 0, 1]])
    np.testing.assert_allclose(box.normal(np.array([[0.2, -1, 0.3]])), [[0, -1, 0]])


def test_shadow_is_darker_than_light_and_the_sky_is_transparent():
    red = scene.SCENE[1]
    towards = np.array([0.55, -0.35, 0.76])
    shaded = np.array(red.centre) - towards / towards[2] * red.centre[2]
    points = np.array([[*shaded[:2], 3.0], [0.9, 0.9, 3.0], [9.0, 9.0, 3.0]])
    down = np.tile([0.0, 0, -1], (3, 1))
    rgb, alpha = scene.trace(points, down)
    assert alpha.tolist() == [1, 1, 0]
    up = np.tile([0.0, 0, 1], (2, 1))
    plain = scene.SCENE[0].colour(points[:2] * [1, 1, 0], up)
    shares = (rgb[:2] / plain).mean(axis=1)
    assert shares[0] < 0.6 * shares[1]


def test_a_folder_has_pictures_and_cameras_in_the_known_layout(tmp_path):
    scene.main(["-o", str(tmp_path / "scene"), "--views", "9", "--size", "24"])
    stated = json.loads((tmp_path / "scene" / "transforms.json").read_text())
    assert {"camera_angle_x", "fl_x", "w", "h", "frames"} <= stated.keys()
    assert len(stated["frames"]) == 9
    picture = cv2.imread(str(tmp_path / "scene" / stated["frames"][0]["file_path"]), -1)
    assert picture.shape == (24, 24, 4)
    assert {0, 255} <= set(picture[..., 3].reshape(-1).tolist())
    train, held_out = read_views(tmp_path / "scene")
    assert (len(train), len(held_out)) == (7, 2)
    assert held_out[1].name == stated["frames"][8]["file_path"]
    origins, directions = train[0].rays()
    assert origins.shape == directions.shape == (576, 3)
    again = scene.picture(np.array(stated["frames"][0]["transform_matrix"]), 24)
    np.testing.assert_array_equal(picture, again)


def test_nothing_is_overwritten_and_nonsense_is_refused(tmp_path):
    with pytest.raises(InputError, match="exists already"):
        scene.write_scene(tmp_path, views=2, size=8)
    for views, size in ((1, 64), (4, 7)):
        with pytest.raises(UsageError):
            scene.write_scene(tmp_path / "new", views=views, size=size)
    assert not (tmp_path / "new").exists()


def test_pictures_that_do_not_fit_their_cameras_are_refused(tmp_path):
    scene.write_scene(tmp_path / "scene", views=2, size=8)
    cv2.imwrite(str(tmp_path / "scene" / "images" / "r_001.png"), np.zeros((8, 20, 3), np.uint8))
    with pytest.raises(InputError, match="20x8"):
        read_views(tmp_path / "scene")
    (tmp_path / "scene" / "images" / "r_001.png").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        read_views(tmp_path / "scene")


def test_blenders_two_lists_are_read_as_such(tmp_path):
    scene.write_scene(tmp_path / "scene", views=3, size=8)
    stated = json.loads((tmp_path / "scene" / "transforms.json").read_text())
    for name, frames in (("train", stated["frames"][:2]), ("test", stated["frames"][2:])):
        short = [f | {"file_path": "./" + f["file_path"].removesuffix(".png")} for f in frames]
        text = json.dumps({"camera_angle_x": stated["camera_angle_x"], "frames": short})
        (tmp_path / "scene" / f"transforms_{name}.json").write_text(text)
    whole = read_views(tmp_path / "scene")
    assert [len(views) for views in whole] == [2, 1]
    (tmp_path / "scene" / "transforms_train.json").unlink()
    single = read_views(tmp_path / "scene")[1]
    np.testing.assert_allclose(single[0].rays()[1], whole[0][0].rays()[1], atol=1e-6)
