"""A field learns a scene in seconds, goes on where it was stopped, and refuses what is not its."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jetlift.export import radiance_trainer, scene, train_nerf
from jetlift.export.radiance import FieldConfig, facts_of, read_views
from jetlift.export.radiance_modules import HashGrid, Network, Planes, RaysPart, weights_of
from jetlift.export.train_nerf import Request, train
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.rays import crossings, weights_along

TINY = FieldConfig(resolutions=(16, 48), channels=6, hidden=24, geometry=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("nerf") / "scene"
    scene.write_scene(out, views=24, size=32)
    return out


@pytest.fixture
def quick(monkeypatch):
    """A few seconds' work: fewer samples at a time, and an occupancy grid looked at sooner."""
    monkeypatch.setattr(radiance_trainer, "WARM", 16)
    return radiance_trainer


def test_held_out_views_are_rendered_far_better_than_by_their_mean_colour(folder, tmp_path):
    request = Request(folder, tmp_path / "w.safetensors", 180, 32, TINY, points=6000)
    lines: list[str] = []
    facts = train(request, lines.append)
    _, held_out = read_views(folder)
    pictures = np.stack([view.over((1.0, 1.0, 1.0)) for view in held_out])
    plain = -10 * np.log10(np.square(pictures - pictures.mean(axis=(0, 1, 2))).mean())
    assert facts.training.held_out_views == 3
    assert facts.training.held_out_psnr > plain + 4
    assert facts_of(request.out) == facts
    assert not request.kept.exists()
    assert any("held-out views: PSNR" in line for line in lines)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(folder, tmp_path, quick, monkeypatch):
    whole = Request(folder, tmp_path / "whole.safetensors", 40, 16, TINY, points=3000)
    stopped = replace(whole, out=tmp_path / "stopped.safetensors")
    train(whole)
    advance = quick.Trainer.advance

    def interrupted(self, rays):
        if self.step == 25:
            raise KeyboardInterrupt
        return advance(self, rays)

    monkeypatch.setattr(quick.Trainer, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(stopped)
    assert stopped.kept.exists()
    assert not stopped.out.exists()
    monkeypatch.setattr(quick.Trainer, "advance", advance)
    with pytest.raises(InputError, match="other arguments"):
        train(replace(stopped, seed=1))
    lines: list[str] = []
    train(stopped, lines.append)
    assert "Going on from step 25" in lines
    from safetensors.numpy import load_file

    first, second = load_file(whole.out), load_file(stopped.out)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_what_cannot_be_trained_is_refused(folder, tmp_path, capsys):
    for wrong in ({"steps": 0}, {"samples": 2}, {"rate": 0.0}, {"half_side": -1.0}):
        with pytest.raises(UsageError):
            train(Request(folder, tmp_path / "w", **wrong))
    assert train_nerf.main([str(tmp_path / "none"), "-o", str(tmp_path / "w")]) == 2
    assert "transforms.json" in capsys.readouterr().err
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="safetensors"):
        facts_of(tmp_path / "x.safetensors")


@given(hnp.arrays(np.float32, (3, 12), elements=st.floats(0, 50, width=32)), st.floats(0.01, 1.0))
def test_weights_are_those_of_the_march_outside(density, step):
    depths = torch.from_numpy(density * np.float32(step))
    wanted = weights_along(density, np.full(3, np.float32(step)))
    np.testing.assert_allclose(weights_of(depths).numpy(), wanted, atol=1e-5)


def test_the_march_box_is_crossed_as_outside(folder):
    views, _ = read_views(folder)
    facts = train_nerf.scene_of(views, Request(folder, folder / "w"))
    origins, directions = views[0].rays()
    box = (np.array(facts.march_low_xyz), np.array(facts.march_high_xyz))
    wanted = crossings(origins, directions, *box, facts.near)
    part = RaysPart(Network(TINY), facts)
    got = part.crossings(torch.from_numpy(origins), torch.from_numpy(directions))
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one.numpy(), other, atol=1e-5)


def test_a_plane_is_read_at_its_texels_and_a_hash_grid_at_its_corners():
    planes = Planes((3,), 2)
    read = planes(torch.tensor([[1.0, -1.0, 0.0]]))[0]
    texels = planes.planes[0]
    wanted = texels[0, :, 0, 2] * texels[1, :, 1, 2] * texels[2, :, 1, 0]
    torch.testing.assert_close(read, wanted)
    grid = HashGrid((2, 64), 2, 10)
    assert [len(table) for table in grid.tables] == [27, 1024]
    corner = grid(torch.tensor([[1.0, -1.0, 0.0]]))[0, :2]
    torch.testing.assert_close(corner, grid.tables[0][(2 * 3 + 0) * 3 + 1])


@pytest.mark.parametrize("encoding", ["planes", "hash", "positional"])
def test_the_graph_computes_what_was_trained(encoding):
    torch.manual_seed(1)
    network = Network(replace(TINY, encoding=encoding, layers=2))
    places, directions = torch.rand(5, 7, 3) * 2 - 1, torch.rand(5, 3)
    with torch.no_grad():
        density, colour = network.across(places, directions)
        wanted, geometry = network.solid(places.reshape(-1, 3))
        looked = network.looked(directions).repeat_interleave(7, dim=0)
        painted = network.colour(geometry, looked)
    torch.testing.assert_close(density.reshape(-1), wanted)
    torch.testing.assert_close(colour.reshape(3, -1).T, painted)


@pytest.mark.parametrize("encoding", ["planes", "hash", "positional"])
def test_every_encoding_learns_where_a_ball_is(encoding):
    torch.manual_seed(0)
    network = Network(replace(TINY, encoding=encoding, layers=2))
    points = torch.rand(2000, 3) * 2 - 1
    inside = (points.norm(dim=1) < 0.7).float()
    adam = torch.optim.Adam(network.parameters(), lr=1e-2)
    errors = []
    for _ in range(80):
        density, geometry = network.solid(points)
        rgb = network.colour(geometry, network.looked(points))
        error = (1 - torch.exp(-density) - inside).square().mean() + rgb.square().mean()
        adam.zero_grad()
        error.backward()
        adam.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.35 * errors[0]
