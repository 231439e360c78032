from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganatomy.images.image import ComputedArray, Image
from ganatomy.inference.tiling import Tiler, finer, rolling


def volume(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)


def reader(values, asked=None):
    def read(start, stop):
        if asked is not None:
            asked.append((start, stop))
        return values[:, start:stop]

    return read


def valid(dims, layers):
    """Convolutions without padding; loses ``layers`` voxels a side."""
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
    got = Tiler(network, 3, (layers,) * 3, tile=tile)(reader(values), shape, start, stop)
    want = untiled(network, values, (layers,) * 3)[:, start:stop]
    np.testing.assert_allclose(got, want, atol=2e-6)


@given(st.tuples(st.integers(1, 4), st.integers(4, 30), st.integers(4, 30)), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_slices_of_a_plane_network_are_independent(shape, layers):
    network, values = valid(2, layers), volume(*shape)
    got = Tiler(network, 2, (0, layers, layers))(reader(values), shape, 0, shape[0])
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
    got = Tiler(crop, dims, margin, multiple, tile=(2, 5, 6))(reader(values), shape, 0, shape[0])
    assert np.array_equal(got, values)
    assert all(size % multiple == 0 for pair in seen for size in pair)


def test_a_smooth_ramp_shows_no_seams():
    z, y, x = np.meshgrid(np.arange(9.0), np.arange(40.0), np.arange(40.0), indexing="ij")
    values = (z + y / 10 + x / 20)[None].astype(np.float32)
    mean = lambda block: nn.functional.avg_pool3d(block, 3, stride=1)  # noqa: E731
    got = Tiler(mean, 3, (1, 1, 1), tile=(2, 7, 11))(reader(values), (9, 40, 40), 0, 9)
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
    tiler = Tiler(network, 3, tile=steps)
    whole = tiler(reader(ramp), ramp.shape[1:], 0, 40)
    assert tiler.thickness(40) == 40
    np.testing.assert_array_equal(tiler(reader(ramp), ramp.shape[1:], 10, 25), whole[:, 10:25])
    assert seam(whole[0, 1:-1, 1:-1, 1:-1], steps, 1) < 1.5
    with torch.no_grad():
        slabs = [network(torch.from_numpy(ramp[None, :, start : start + 16]))[0] for start in (0, 16, 32)]
    cut = np.concatenate([part.numpy() for part in slabs], axis=1)[0, 1:-1, 1:-1, 1:-1]
    assert seam(cut, steps, 1) > 10, "the measure sees seams where there are some"


def test_no_more_is_read_than_a_slab_and_its_margins():
    asked, values = [], volume(30, 6, 6)
    network = valid(3, 3)
    Tiler(network, 3, (3, 3, 3), tile=(4, 6, 6))(reader(values, asked), (30, 6, 6), 0, 30)
    assert max(stop - start for start, stop in asked) <= 4 + 2 * 3
    assert all(0 <= start < stop <= 30 for start, stop in asked)


def lazy(values, asked):
    return Image.from_array(values[0]).with_array(ComputedArray(values.shape, np.float32, reader(values, asked)))


@pytest.mark.parametrize("slices", [2, 5, 11, 24])
def test_slabs_that_overlap_read_every_slice_once(slices):
    asked, values = [], volume(slices, 6, 6)
    image = rolling(lazy(values, asked))
    tiler = Tiler(valid(3, 3), 3, (3, 3, 3), tile=(4, 6, 6))
    parts = [
        tiler(image.slab, (slices, 6, 6), start, min(start + 4, slices))
        for start in range(0, slices, tiler.thickness(slices))
    ]
    assert sorted(index for start, stop in asked for index in range(start, stop)) == list(range(slices))
    np.testing.assert_allclose(np.concatenate(parts, 1), untiled(tiler.network, values, (3, 3, 3)), atol=2e-6)


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
    Tiler(watch, 2, (0, 1, 1))(reader(volume(1, 8, 8)), (1, 8, 8), 0, 1)
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
    tiler = Tiler(enlarge, 3, (lost,) * 3, multiple, tile=(2, 5, 6), scale=scale)
    assert np.array_equal(tiler(reader(values), shape, start, stop), want[:, start:stop])


@given(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)))
def test_the_voxels_of_a_finer_grid_fill_those_of_the_coarse_one(scale):
    affine = np.array([[0, 0, 1.5, 3], [0, -2, 0, 4], [5, 0, 0, -7], [0, 0, 0, 1.0]])
    fine = finer(affine, scale)
    first, last = fine @ [0, 0, 0, 1], fine @ [*(times - 1 for times in scale), 1]
    np.testing.assert_allclose((first + last) / 2, affine @ [0, 0, 0, 1])
    np.testing.assert_allclose(fine[:3, :3] * scale, affine[:3, :3])
