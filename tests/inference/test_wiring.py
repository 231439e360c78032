"""Whether tiles are read and put together along the right axes: margins and overlaps of unequal sizes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ganatomy.errors import UserError
from ganatomy.game import Tiling
from ganatomy.images.codecs import PercentileWindow, Window, ZScore
from ganatomy.inference.predictor import decoding_role
from ganatomy.inference.tiling import Tiler
from ganatomy.roles.image import ImageRole

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


@pytest.mark.parametrize(
    ("codec", "ends"),
    [
        (PercentileWindow(p_low=1, p_high=99, to=(0.0, 1.0), unit="HU"), (-50.0, 250.0)),
        (PercentileWindow(p_low=1, p_high=99, to=(-1.0, 1.0), unit="HU"), (-350.0, 250.0)),
        (ZScore(unit="HU"), (-50.0, 250.0)),
    ],
)
def test_a_made_image_has_the_median_scale_of_the_training_cases(codec, ends):
    """The scales are what 0 and 1 of the networks' range are in three cases."""
    scales = np.array([[-50.0, 250.0], [-80.0, 900.0], [10.0, 200.0]])
    task = SimpleNamespace(fitted={"scale.ct": scales}, same_contrast=lambda name: None)
    role = decoding_role(task, ImageRole("ct", codec))
    values = np.float32([0, 1, 0.5])
    np.testing.assert_allclose(role.decoded(values), [-50, 250, 100], rtol=1e-5)
    assert isinstance(role.codec, Window) and (role.codec.low, role.codec.high) == ends and role.codec.unit == "HU"
    with pytest.raises(UserError, match="its scale was not learned in training"):
        decoding_role(SimpleNamespace(fitted={}, same_contrast=lambda name: None), ImageRole("ct", codec))


def test_a_made_image_of_the_contrast_of_its_input_has_its_scale():
    codec = PercentileWindow(p_low=0, p_high=100, to=(0.0, 1.0))
    seen = ImageRole("low", Window(low=-7, high=13))
    task = SimpleNamespace(fitted={"scale.high": np.array([[0.0, 1.0]])}, same_contrast=lambda name: "low")
    role = decoding_role(task, ImageRole("high", codec), SimpleNamespace(role=lambda name: {"low": seen}[name]))
    assert role.codec == Window(low=-7, high=13, to=(0, 1)), "its physical ends in the output's own range"
    fixed = ImageRole("high", Window(low=0, high=4))
    assert decoding_role(task, fixed) is fixed, "one window for all cases is nobody's own"
