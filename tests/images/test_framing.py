import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.images.framing import Framing
from ganatomy.images.image import Image


def ramp(slices, rows, columns):
    """Values that tell their place in mm from the centre, on pixels of 2 x 1 x 0.5 mm."""
    spacing = (2.0, 1.0, 0.5)
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip((slices, rows, columns), spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return Image.from_array((z + 10 * y + 100 * x).astype(np.float32), spacing)


def test_a_picture_of_the_right_size_is_left_alone():
    image = ramp(3, 16, 12)
    assert Framing((16, 12))(image) is image
    assert Framing((8, 8), "patches")(image) is image


@pytest.mark.parametrize("fit", ["cover", "contain"])
@pytest.mark.parametrize("size", [(16, 16), (10, 24), (64, 48)])
def test_every_pixel_keeps_its_place_in_the_patient(fit, size):
    image = ramp(2, 32, 40)
    framed = Framing(size, fit, np.nan)(image)
    assert framed.shape == (2, *size)
    values = framed.numpy()[0]
    index = np.stack(np.meshgrid(*map(np.arange, framed.shape), indexing="ij"), -1).reshape(-1, 3)
    world = index @ framed.affine[:3, :3].T + framed.affine[:3, 3]
    old = (world - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
    # Near an edge the average of what is there leans inwards.
    inside = ((old[:, 1:] > 5) & (old[:, 1:] < np.array([26, 34]))).all(axis=1) & np.isfinite(values.ravel())
    # Nearer than an eighth of a pixel: filters of fractional scales are not quite symmetric.
    want = 2 * (old[:, 0] - 0.5) + 10 * (old[:, 1] - 15.5) + 50 * (old[:, 2] - 19.5)
    np.testing.assert_allclose(values.ravel()[inside], want[inside], atol=6)
    assert inside.sum() > 50


def test_covering_fills_the_frame_and_containing_keeps_everything():
    image = ramp(1, 20, 40)
    assert np.isfinite(Framing((10, 10), "cover", np.nan)(image).numpy()).all()
    contained = Framing((10, 10), "contain", -7.0)(image).numpy()[0, 0]
    assert (contained[:2] == -7).all() and (contained[-3:] == -7).all() and (contained[2:7] != -7).all()
    assert contained.max() > 0.8 * image.numpy().max()


@given(st.integers(8, 40), st.integers(8, 40), st.sampled_from(["cover", "contain"]))
@settings(deadline=None, max_examples=30)
def test_the_way_back_meets_the_way_in(rows, columns, fit):
    values = np.add.outer(np.linspace(0, 1, rows), np.linspace(0, 1, columns)).astype(np.float32)[None, None]
    frame = Framing((24, 24), fit)
    back = frame.back(frame.into(values), (rows, columns), np.nan)
    assert back.shape == values.shape
    known = np.isfinite(back)
    inner = np.zeros_like(known)
    inner[..., 2:-2, 2:-2] = True
    assert known.mean() > 0.1
    deep = known & inner
    assert np.quantile(np.abs(back[deep] - values[deep]), 0.9) < 0.08


def test_volumes_are_framed_in_space():
    image = ramp(8, 16, 16)
    framed = Framing((4, 8, 8), "cover")(image)
    assert framed.shape == (4, 8, 8)
    assert framed.spacing == pytest.approx((4.0, 2.0, 1.0))
    np.testing.assert_allclose(framed.numpy().mean(), image.numpy().mean(), atol=1e-3)
