"""Whether tiles are read and put together along the right axes: margins and overlaps of unequal sizes."""

import numpy as np
import pytest
import torch
from torch import nn

from ganatomy.game import Tiling
from ganatomy.inference.tiling import Tiler

SHAPE = (4, 11, 17)
VALUES = np.random.default_rng(3).normal(size=(1, *SHAPE)).astype(np.float32)


def read(start, stop):
    return VALUES[:, start:stop]


def run(network, dims, start=0, stop=SHAPE[0], **tiling):
    return Tiler(network, dims, Tiling(**tiling))(read, SHAPE, start, stop)


MORE = [{}, {"tile": (2, 5, 7)}, {"tile": (3, 6, 4), "overlap": 0.5, "blend": "mean"}, {"multiple": 4}]


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize(("rows", "columns"), [(1, 4), (3, 0), (2, 5)])
def test_rows_and_columns_have_margins_of_their_own(rows, columns, more):
    def cropped(block):
        return block[..., rows : block.shape[-2] - rows, columns : block.shape[-1] - columns]

    np.testing.assert_allclose(run(cropped, 2, margin=(0, rows, columns), **more), VALUES, atol=1e-6)


@pytest.mark.parametrize("more", MORE[:3])
def test_slices_have_a_margin_of_their_own(more):
    def cropped(block):
        return block[:, :, 2:-2, 1:-1, 3:-3]

    found = run(cropped, 3, 1, 3, margin=(2, 1, 3), **more)
    np.testing.assert_allclose(found, VALUES[:, 1:3], atol=1e-6)


def test_what_lies_beyond_the_edge_is_mirrored():
    torch.manual_seed(0)
    network = nn.Conv2d(1, 1, (3, 7))
    padded = torch.from_numpy(np.pad(VALUES, [(0, 0), (0, 0), (1, 1), (3, 3)], "reflect")).transpose(0, 1)
    with torch.no_grad():
        want = network(padded).transpose(0, 1).numpy()
    for more in ({}, {"tile": (1, 4, 6)}):
        np.testing.assert_allclose(run(network, 2, margin=(0, 1, 3), **more), want, atol=1e-6)


@pytest.mark.parametrize("blend", ["mean", "gaussian"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_tile_counts_where_tiles_overlap(axis, blend):
    """Tiles say their number: where two overlap the result lies between them, whichever comes last."""
    tile = [SHAPE[0], SHAPE[1], SHAPE[2]]
    tile[axis] = {0: 2, 1: 6, 2: 10}[axis]
    numbers = iter(range(100))

    def numbered(block):
        return torch.full_like(block, float(next(numbers)))

    found = run(numbered, 3, tile=tuple(tile), overlap=0.5, blend=blend)
    line = np.moveaxis(found[0], axis, 0)
    assert all(np.ptp(plane) < 1e-5 for plane in line), "tiles differ along one axis alone"
    line = line.reshape(len(line), -1)[:, 0]
    between = line[(line % 1).round(4) > 0]
    assert (np.diff(line) >= -1e-5).all() and len(between) >= 1
    if blend == "mean":
        assert set(((line * 2) % 1).round(4)) <= {0.0, 1.0}, "two tiles count alike"
