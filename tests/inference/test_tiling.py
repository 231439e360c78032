from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganatomy.game import Tiling
from ganatomy.images.image import ComputedArray, Image
from ganatomy.inference.tiling import Tiler, finer, rolling


def tiler(network, dims, margin=(0, 0, 0), multiple=1, **more):
    return Tiler(network, dims, Tiling(margin, multiple, **more))


def volume(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)


def reader(values, asked=None):
    def read(start, stop):
        if asked is not None:
            asked.append((start, stop))
        return values[:, start:stop]

    return read


def valid(dims, layers):
    """Convolutions without padding, which lose ``layers`` voxels a side."""
    torch.manual_seed(layers)
    convolution = nn.Conv2d if dims == 2 else nn.Conv3d
    channels = [1, *[3] * (layers - 1), 1]
    pairs = pairwise(channels)
    return nn.Sequential(*[part for a, b in pairs for part in (convolution(a, b, 3), nn.Tanh())])


def untiled(network, values, margin):
    pad = [(0, 0), *((m, m) for m in margin)]
    block = torch.from_numpy(np.pad(values, pad, mode="reflect"))
    with torch.no_grad():
        result = network(block.transpose(0, 1)).transpose(0, 1) if margin[0] == 0 else network(block[None])[0]
    return result.numpy()


@given(
    st.tuples(st.integers(1, 7), st.integers(3, 20), st.integers(3, 20)),
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 3),
    st.data(),
)
@settings(max_examples=40, deadline=None)
def test_tiles_of_a_volume_meet_exactly(shape, tile, layers, data):
    network, values = valid(3, layers), volume(*shape)
    start = data.draw(st.integers(0, shape[0] - 1))
    stop = data.draw(st.integers(start + 1, shape[0]))
    got = tiler(network, 3, (layers,) * 3, tile=tile)(reader(values), shape, start, stop)
    want = untiled(network, values, (layers,) * 3)[:, start:stop]
    np.testing.assert_allclose(got, want, atol=2e-6)


@given(st.tuples(st.integers(1, 4), st.integers(4, 30), st.integers(4, 30)), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_slices_of_a_plane_network_are_independent(shape, layers):
    network, values = valid(2, layers), volume(*shape)
    got = tiler(network, 2, (0, layers, layers))(reader(values), shape, 0, shape[0])
    np.testing.assert_allclose(got, untiled(network, values, (0, layers, layers)), atol=2e-6)


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 17), st.integers(1, 17)),
    st.sampled_from([1, 2, 8]),
    st.integers(0, 2),
    st.sampled_from([2, 3]),
)
@settings(max_examples=60, deadline=None)
def test_the_identity_gives_the_image_back(shape, multiple, lost, dims):
    margin = (0 if dims == 2 else lost, lost, lost)
    seen = []

    def crop(block):
        seen.append(tuple(block.shape[-2:]))
        inner = [slice(m, size - m) for m, size in zip(margin[-dims:], block.shape[2:], strict=True)]
        return block[:, :, *inner]

    values = volume(*shape)
    got = tiler(crop, dims, margin, multiple, tile=(2, 5, 6))(reader(values), shape, 0, shape[0])
    assert np.array_equal(got, values)
    assert all(size % multiple == 0 for pair in seen for size in pair)


def test_a_smooth_ramp_shows_no_seams():
    z, y, x = np.meshgrid(np.arange(9.0), np.arange(40.0), np.arange(40.0), indexing="ij")
    values = (z + y / 10 + x / 20)[None].astype(np.float32)
    mean = lambda block: nn.functional.avg_pool3d(block, 3, stride=1)  # noqa: E731
    got = tiler(mean, 3, (1, 1, 1), tile=(2, 7, 11))(reader(values), (9, 40, 40), 0, 9)
    assert np.abs(got - values)[:, 1:-1, 1:-1, 1:-1].max() < 1e-5


def seam(image, steps, lost):
    """Largest jump of the slope across the borders of tiles, over the largest one elsewhere; 1 shows no seam.

    Tiles are so many voxels long; so many are lost at either end of the image.
    """
    worst = []
    for axis, step in enumerate(steps):
        bend = np.abs(np.diff(image, 2, axis)).max(axis=tuple({0, 1, 2} - {axis}))
        border = np.zeros(len(bend), bool)
        # A convolution with padding spoils a voxel on either side, and a bend looks at three.
        for near in range(-3, 1):
            border[step - lost + near :: step] = True
        worst.append(bend[border].max() / max(bend[~border].max(), 1e-4))
    return max(worst)


def test_instance_norm_on_a_smooth_ramp_shows_no_steps():
    axes = np.meshgrid(*(np.linspace(0, 1, extent) for extent in (40, 24, 20)), indexing="ij")
    ramp = (axes[0] ** 2 + axes[1] + np.sin(axes[2]))[None].astype(np.float32)
    torch.manual_seed(0)
    network, steps = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.InstanceNorm3d(2), nn.Conv3d(2, 1, 1)), (16, 8, 8)
    run = tiler(network, 3)
    whole = run(reader(ramp), ramp.shape[1:], 0, 40)
    assert run.thickness(40) == 40
    np.testing.assert_array_equal(run(reader(ramp), ramp.shape[1:], 10, 25), whole[:, 10:25])
    assert seam(whole[0, 1:-1, 1:-1, 1:-1], steps, 1) < 1.5
    with torch.no_grad():
        slabs = [network(torch.from_numpy(ramp[None, :, start : start + 16]))[0] for start in (0, 16, 32)]
    cut = np.concatenate([part.numpy() for part in slabs], axis=1)[0, 1:-1, 1:-1, 1:-1]
    assert seam(cut, steps, 1) > 10, "the measure sees seams where there are some"


@pytest.mark.parametrize(("ends", "expected"), [("repeated", [1, 3, 6, 8]), ("mirrored", [2, 3, 6, 7])])
def test_slices_beyond_the_ends_are_mirrored_or_repeated(ends, expected):
    values = np.broadcast_to(np.arange(4, dtype=np.float32)[None, :, None, None], (1, 4, 2, 2))

    def three(block):
        return block.unfold(2, 3, 1).sum(-1)

    made = tiler(three, 3, (1, 0, 0), tile=(1, 2, 2), ends=ends)(reader(values), (4, 2, 2), 0, 4)
    assert made[0, :, 0, 0].tolist() == expected


def test_no_more_is_read_than_a_slab_and_its_margins():
    asked, values = [], volume(30, 6, 6)
    network = valid(3, 3)
    tiler(network, 3, (3, 3, 3), tile=(4, 6, 6))(reader(values, asked), (30, 6, 6), 0, 30)
    assert max(stop - start for start, stop in asked) <= 4 + 2 * 3
    assert all(0 <= start < stop <= 30 for start, stop in asked)


def lazy(values, asked):
    return Image.from_array(values[0]).with_array(ComputedArray(values.shape, np.float32, reader(values, asked)))


@pytest.mark.parametrize("slices", [2, 5, 11, 24])
def test_slabs_that_overlap_read_every_slice_once(slices):
    asked, values = [], volume(slices, 6, 6)
    image = rolling(lazy(values, asked))
    run = tiler(valid(3, 3), 3, (3, 3, 3), tile=(4, 6, 6))
    parts = [
        run(image.slab, (slices, 6, 6), start, min(start + 4, slices))
        for start in range(0, slices, run.thickness(slices))
    ]
    assert sorted(index for start, stop in asked for index in range(start, stop)) == list(range(slices))
    np.testing.assert_allclose(np.concatenate(parts, 1), untiled(run.network, values, (3, 3, 3)), atol=2e-6)


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(1, 6)), min_size=1, max_size=12))
def test_rolling_gives_what_was_asked_for_in_any_order(requests):
    values = volume(12, 2, 2)
    image = rolling(lazy(values, []))
    for start, length in requests:
        stop = min(start + length, 12)
        assert np.array_equal(image.slab(start, stop), values[:, start:stop])


def test_rolling_does_not_hold_the_whole_image():
    values = volume(64, 4, 4)
    image = rolling(lazy(values, []))
    for start in range(0, 60, 2):
        image.slab(start, start + 4)
        assert image.array.held.shape[1] <= 4


def test_no_gradient_is_kept():
    network = valid(2, 1)
    states = []
    watch = lambda block: (states.append(torch.is_grad_enabled()), network(block))[1]  # noqa: E731
    tiler(watch, 2, (0, 1, 1))(reader(volume(1, 8, 8)), (1, 8, 8), 0, 1)
    assert states == [False]


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 17), st.integers(1, 17)),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from([1, 4]),
    st.integers(0, 2),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_finer_grid_is_filled_tile_by_tile(shape, scale, multiple, lost, data):
    def enlarge(block):
        inner = [slice(lost, size - lost) for size in block.shape[2:]]
        block = block[:, :, *inner]
        for axis, times in enumerate(scale, start=2):
            block = block.repeat_interleave(times, axis)
        return block

    values = volume(*shape)
    want = values
    for axis, times in enumerate(scale, start=1):
        want = want.repeat(times, axis)
    start = data.draw(st.integers(0, want.shape[1] - 1))
    stop = data.draw(st.integers(start + 1, want.shape[1]))
    run = tiler(enlarge, 3, (lost,) * 3, multiple, tile=(2, 5, 6), scale=scale)
    assert np.array_equal(run(reader(values), shape, start, stop), want[:, start:stop])


@given(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)))
def test_the_voxels_of_a_finer_grid_fill_those_of_the_coarse_one(scale):
    affine = np.array([[0, 0, 1.5, 3], [0, -2, 0, 4], [5, 0, 0, -7], [0, 0, 0, 1.0]])
    fine = finer(affine, scale)
    first, last = fine @ [0, 0, 0, 1], fine @ [*(times - 1 for times in scale), 1]
    np.testing.assert_allclose((first + last) / 2, affine @ [0, 0, 0, 1])
    np.testing.assert_allclose(fine[:3, :3] * scale, affine[:3, :3])


def identity(block):
    return block


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 17), st.integers(1, 17)),
    st.sampled_from([0.25, 0.5, 0.8]),
    st.sampled_from(["mean", "gaussian", "hann"]),
    st.sampled_from([2, 3]),
    st.data(),
)
@settings(max_examples=40, deadline=None)
def test_blended_tiles_of_the_identity_give_the_image_back(shape, overlap, blend, dims, data):
    values = volume(*shape)
    start = data.draw(st.integers(0, shape[0] - 1))
    stop = data.draw(st.integers(start + 1, shape[0]))
    got = tiler(identity, dims, tile=(3, 5, 6), overlap=overlap, blend=blend)(reader(values), shape, start, stop)
    np.testing.assert_allclose(got, values[:, start:stop], atol=1e-6)


def test_blending_averages_what_overlapping_tiles_say():
    def place(block):
        return torch.full_like(block, float(block.min()))

    values = np.arange(12, dtype=np.float32).reshape(1, 1, 1, 12)
    got = tiler(place, 2, tile=(1, 1, 8), overlap=0.5, blend="mean")(reader(values), (1, 1, 12), 0, 1)
    assert got.ravel().tolist() == [0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4]
    weighted = tiler(place, 2, tile=(1, 1, 8), overlap=0.5, blend="gaussian")(reader(values), (1, 1, 12), 0, 1)
    assert (np.diff(weighted.ravel()) >= 0).all() and 0 < weighted[0, 0, 0, 4] < 2 < weighted[0, 0, 0, 7] < 4


def test_slabs_of_blended_tiles_are_those_of_the_whole_and_no_tile_is_computed_twice():
    passes = []

    def watch(block):
        passes.append(1)
        return block * block.mean()

    values, shape = volume(11, 9, 10), (11, 9, 10)
    options = {"tile": (4, 5, 6), "overlap": 0.5, "blend": "gaussian"}
    whole = tiler(watch, 3, **options)(reader(values), shape, 0, 11)
    once, read = len(passes), reader(values)
    slabs = tiler(watch, 3, **options)
    parts = [slabs(read, shape, at, min(at + 3, 11)) for at in range(0, 11, 3)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-6)
    assert len(passes) == 2 * once and len(slabs.bands) <= 2


def test_several_outputs_are_found_by_their_names():
    def both(block):
        return {"twice": 2 * block, "parts": torch.cat([block, -block], dim=1)}

    values, shape = volume(3, 7, 8), (3, 7, 8)
    for more in ({}, {"tile": (2, 4, 5)}, {"tile": (2, 4, 5), "overlap": 0.5, "blend": "mean"}):
        found = tiler(both, 3, **more).named(reader(values), shape, 1, 3)
        np.testing.assert_allclose(found["twice"], 2 * values[:, 1:3], atol=1e-6)
        np.testing.assert_allclose(found["parts"], np.concatenate([values, -values])[:, 1:3], atol=1e-6)


@pytest.mark.parametrize("length", [5, 64, 200])
def test_signals_are_tiled_along_their_only_axis(length):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(2, 3, 5), nn.Tanh(), nn.Conv1d(3, 1, 3))
    values = np.random.default_rng(1).normal(size=(2, 1, 1, length)).astype(np.float32)
    got = tiler(network, 1, (0, 0, 3), tile=(1, 1, 32))(reader(values), (1, 1, length), 0, 1)
    with torch.no_grad():
        want = network(torch.from_numpy(np.pad(values[:, 0, 0], [(0, 0), (3, 3)], "reflect"))[None])
    np.testing.assert_allclose(got[0, 0], want[0].numpy(), atol=1e-6)


def test_tiles_without_a_margin_meet_where_they_are_cut():
    seen = []

    def watch(block):
        seen.append(tuple(block.shape[2:]))
        return block

    values = volume(5, 12, 9)
    got = tiler(watch, 3, tile=(2, 8, 8))(reader(values), (5, 12, 9), 0, 5)
    assert np.array_equal(got, values) and max(np.prod(size) for size in seen) <= 2 * 8 * 8


def test_an_overlap_needs_a_tile_and_a_blend():
    for wrong in ({"overlap": 0.5}, {"overlap": 0.5, "tile": (1, 2, 3)}, {"overlap": 1.0, "blend": "mean"}):
        with pytest.raises(ValueError, match="overlap"):
            Tiling(**wrong)
