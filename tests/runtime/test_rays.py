"""Cameras look where they should, boxes are crossed where they are, weights are Max's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jetlift.runtime.rays import (
    camera_rays,
    composite,
    crossings,
    look_at,
    orbit_pose,
    weights_along,
)

coordinates = st.floats(-5, 5, allow_nan=False)
points = st.tuples(coordinates, coordinates, coordinates).map(np.array)
densities = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 24)), elements=st.floats(0, 1e4)
)


def is_turn(pose: np.ndarray) -> bool:
    turn = pose[:3, :3]
    return np.allclose(turn.T @ turn, np.eye(3), atol=1e-9) and np.linalg.det(turn) > 0


@given(points, points)
def test_a_pose_turns_and_looks_at_its_target(eye, target):
    pose = look_at(eye, target)
    assert pose.shape == (4, 4)
    np.testing.assert_allclose(pose[:3, 3], eye)
    if np.linalg.norm(target - eye) < 1e-3:
        return
    assert is_turn(pose)
    ahead = (target - eye) / np.linalg.norm(target - eye)
    np.testing.assert_allclose(-pose[:3, 2], ahead, atol=1e-9)
    assert pose[2, 1] >= -1e-9  # the picture's top is up


@given(st.floats(-2, 2), points, st.floats(0.1, 10), st.floats(-90, 90))
def test_an_orbit_keeps_its_distance_and_height(turn, centre, radius, elevation):
    pose = orbit_pose(turn, centre, radius, elevation)
    assert is_turn(pose)
    offset = pose[:3, 3] - centre
    assert np.linalg.norm(offset) == pytest.approx(radius)
    assert offset[2] == pytest.approx(radius * np.sin(np.deg2rad(elevation)), abs=1e-9)


def test_the_first_orbit_pose_stands_on_x_and_turns_towards_y():
    np.testing.assert_allclose(orbit_pose(0, np.zeros(3), 2.0, 0.0)[:3, 3], (2, 0, 0), atol=1e-12)
    np.testing.assert_allclose(orbit_pose(0.25, np.zeros(3), 2, 0)[:3, 3], (0, 2, 0), atol=1e-12)


def test_pixels_are_where_blender_and_opengl_have_them():
    origins, directions = camera_rays(np.eye(4), (4, 2), 1.0)
    assert origins.shape == directions.shape == (8, 3)
    assert origins.dtype == directions.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    first = np.array([-1.5, 0.5, -1.0])  # top left: left of the axis and above it
    np.testing.assert_allclose(directions[0], first / np.linalg.norm(first), atol=1e-6)
    _, shifted = camera_rays(np.eye(4), (4, 2), (1.0, 2.0), (0.5, 0.5))
    np.testing.assert_allclose(shifted[0], (0, 0, -1), atol=1e-6)
    assert shifted[4][1] == pytest.approx(-0.5 / np.sqrt(1.25))


@given(points, points)
def test_a_box_is_entered_and_left_on_its_faces(origin, towards):
    direction = towards - origin
    length = np.linalg.norm(direction)
    if length < 1e-2:
        return
    direction = (direction / length)[None]
    low, high = np.array([-1.0, -0.5, -2.0]), np.array([1.0, 0.5, 0.5])
    enter, leave = crossings(origin[None], direction, low, high, 0.01)
    assert leave[0] >= enter[0] >= np.float32(0.01)
    for share in (0.1, 0.5, 0.9):
        at = origin + (enter[0] + share * (leave[0] - enter[0])) * direction[0]
        if leave[0] - enter[0] > 1e-3:
            assert (at > low - 1e-3).all()
            assert (at < high + 1e-3).all()


def test_a_ray_along_an_axis_crosses_at_plain_distances():
    straight = np.array([[0.0, 0.0, -1.0]])
    low, high = -np.ones(3), np.ones(3)
    enter, leave = crossings(np.array([[0.0, 0.0, 4.0]]), straight, low, high, 0.1)
    assert (enter[0], leave[0]) == (3.0, 5.0)
    enter, leave = crossings(np.array([[2.0, 0.0, 4.0]]), straight, low, high, 0.1)
    assert enter[0] == leave[0]  # it misses


@given(densities, st.floats(1e-3, 1.0))
def test_weights_are_never_negative_and_sum_to_one_at_most(density, step):
    weights = weights_along(density, np.full(len(density), step))
    assert (weights >= 0).all()
    assert (weights.sum(axis=1) <= 1 + 1e-9).all()
    through = np.exp(-(density * step).sum(axis=1))
    np.testing.assert_allclose(1 - weights.sum(axis=1), through, atol=1e-9)


@given(st.integers(0, 9), st.integers(1, 10))
def test_an_opaque_sample_is_all_that_is_seen(first, more):
    density = np.zeros((1, 10))
    density[0, first : first + more] = 1e9
    weights = weights_along(density, np.ones(1))
    colours = np.linspace(0, 1, 30).reshape(1, 10, 3)
    distances = np.arange(10.0)[None]
    rgb, depth, opacity = composite(weights, colours, distances, np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(rgb[0], colours[0, first], atol=1e-6)
    assert depth[0] == pytest.approx(first)
    assert opacity[0] == pytest.approx(1)


def test_where_nothing_is_the_background_is_seen_at_no_depth():
    weights = weights_along(np.zeros((2, 5)), np.ones(2))
    background = np.array([0.2, 0.4, 0.6])
    rgb, depth, opacity = composite(weights, np.ones((2, 5, 3)), np.ones((2, 5)), background)
    np.testing.assert_allclose(rgb, np.tile(background, (2, 1)), atol=1e-7)
    assert not depth.any()
    assert not opacity.any()
