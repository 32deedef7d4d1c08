"""Orbits, spirals and files of poses; what a file may not state."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from helpers.radiance import SCENE
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.poses import about, open_poses, orbit, read_capture, spiral, write_poses
from jetlift.runtime.rays import look_at

POSE = look_at(np.array([2.0, 1.0, 1.5]), np.zeros(3))


@given(st.integers(1, 40))
def test_orbits_and_spirals_are_turns_about_the_centre(count):
    for poses in (orbit(count, SCENE), spiral(count, SCENE)):
        assert len(poses) == count
        for pose in poses:
            np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-9)
            distance = np.linalg.norm(pose[:3, 3] - np.array(SCENE.centre_xyz))
            assert distance == pytest.approx(SCENE.orbit_radius)


def test_a_named_path_is_a_film():
    with open_poses(["orbit:6", "spiral:3"], SCENE) as source:
        items = list(source)
    assert (source.count, source.fps) == (9, 30.0)
    assert [item.source for item in items] == ["orbit"] * 6 + ["spiral"] * 3
    assert [item.index for item in items[:6]] == list(range(6))
    assert items[3].time_s == pytest.approx(0.1)
    assert items[0].lens is None
    with open_poses(["orbit"], SCENE, limit=2) as source:
        assert source.count == len(list(source)) == 2


def test_the_centre_is_what_cameras_look_at():
    centre, radius, elevation = about(orbit(7, SCENE))
    np.testing.assert_allclose(centre, SCENE.centre_xyz, atol=1e-6)
    assert radius == pytest.approx(SCENE.orbit_radius)
    assert elevation == pytest.approx(SCENE.orbit_elevation_deg)
    centre, _, _ = about([np.eye(4), np.eye(4)])  # both look down the same line
    np.testing.assert_allclose(centre, (0, 0, -1))


def test_a_file_states_poses_and_a_lens(tmp_path):
    path = tmp_path / "transforms.json"
    frames = [{"file_path": "a.png", "transform_matrix": POSE.tolist()}]
    path.write_text(json.dumps({"w": 40, "h": 20, "fl_x": 50.0, "cx": 19.0, "cy": 10.0,
                                "frames": frames}))  # fmt: skip
    with open_poses([str(path)], SCENE) as source:
        (item,) = source
    assert source.fps is None
    assert item.time_s is None
    np.testing.assert_array_equal(item.camera_to_world, POSE)
    assert item.lens.size_wh == (40, 20)
    assert item.lens.focal_px == (50.0, 50.0)
    assert read_capture(path).lens((80, 40)).centre_px == (38.0, 20.0)


def test_blenders_angle_is_a_focal_length(tmp_path):
    path = tmp_path / "transforms_train.json"
    frames = [{"file_path": "./train/r_0", "transform_matrix": POSE.tolist()}]
    path.write_text(json.dumps({"camera_angle_x": math.pi / 2, "frames": frames}))
    assert read_capture(path).lens((800, 600)).focal_px == pytest.approx((400, 400))


def test_poses_written_are_read_as_a_film(tmp_path):
    path = tmp_path / "path.json"
    path.write_text(write_poses(orbit(4, SCENE), fps=12))
    with open_poses([str(path)], SCENE) as source:
        items = list(source)
    assert source.fps == 12
    assert items[2].time_s == pytest.approx(2 / 12)
    assert items[0].lens is None
    np.testing.assert_allclose(items[1].camera_to_world, orbit(4, SCENE)[1])


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ("[1]", "no JSON object"),
        ("{", "cannot be read"),
        ('{"frames": []}', "no frames"),
        ('{"frames": [3]}', "no frames"),
        ('{"k1": 0.1, "frames": [{}]}', "distortion"),
        ('{"frames": [{"fl_x": 3}]}', "a lens for each frame"),
        ('{"fps": -1, "frames": [{}]}', "fps"),
        ('{"frames": [{"transform_matrix": [[1, 2]]}]}', "no transform_matrix"),
        ('{"frames": [{"transform_matrix": "x"}]}', "no transform_matrix"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, stated, told):
    path = tmp_path / "poses.json"
    path.write_text(stated)
    with pytest.raises(InputError, match=told):
        open_poses([str(path)], SCENE)


def test_a_matrix_that_scales_or_mirrors_is_refused(tmp_path):
    for wrong in (np.diag([2.0, 2, 2, 1]), np.diag([-1.0, 1, 1, 1]), np.diag([1.0, 1, 1, 2])):
        path = tmp_path / "poses.json"
        path.write_text(write_poses([wrong]))
        with pytest.raises(InputError, match="scales, shears or mirrors"):
            open_poses([str(path)], SCENE)


def test_inputs_that_are_none_are_refused(tmp_path):
    path = tmp_path / "poses.json"
    path.write_text(write_poses([POSE]))
    with pytest.raises(InputError, match="states no lens"):
        read_capture(path)
    for given_inputs, limit in (([], None), (["orbit"], 0), (["orbit:0"], None)):
        with pytest.raises(UsageError):
            open_poses(given_inputs, SCENE, limit=limit)
    with pytest.raises(InputError, match="does not exist"):
        open_poses(["orbits:5"], SCENE)
