import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.images.image import Image
from ganatomy.inference.model import Model
from ganatomy.inference.prepared import _starts, detect_array, detect_volume
from ganatomy.tasks.anomaly_detection.task import AnomalyConfig, Detection, Detector

SPACING = (3.0, 2.0, 2.0)


class Dimmer(Detector):
    """Says that a healthy image has half the values; each pixel by itself."""

    Config = AnomalyConfig
    network_range = (0.0, 1.0)

    def __init__(self, config):
        super().__init__(config)
        self.dims = len(config.size)
        self.seen = []

    def stages(self):
        return []

    def detect(self, image):
        self.seen.append(tuple(image.shape))
        map = self.residual(image, image / 2)
        return Detection(map, map.flatten(1).amax(1), image / 2)


def dimmer(**values):
    return Dimmer(AnomalyConfig(**{"window": (0.0, 10.0), "size": (8, 8), **values}))


def noise(*shape):
    return np.random.default_rng(0).uniform(1, 9, shape).astype(np.float32)


@given(st.integers(1, 60), st.integers(1, 30), st.floats(0, 0.9))
def test_patches_cover_an_axis_and_overlap_as_asked(extent, length, overlap):
    starts = _starts(extent, length, overlap)
    if extent <= length:
        assert len(starts) == 1 and starts[0] <= 0 and starts[0] + length >= extent
        return
    assert starts[0] == 0 and starts[-1] == extent - length
    steps = np.diff(starts)
    assert (steps > 0).all() and steps.max() <= max(1, length * (1 - overlap)) + 1


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 19, 13), (1, 5, 20)])
def test_patches_give_what_the_whole_image_gives(shape):
    image = noise(1, *shape)
    whole = detect_array(dimmer(size=shape[1:]), image)
    parts = detect_array(dimmer(fit="patches"), image)
    for a, b in zip(whole, parts, strict=True):
        assert a.shape == b.shape and np.allclose(a, b, rtol=1e-5)
    assert np.allclose(whole.map, image[0] / 2) and np.allclose(whole.healthy, image[0] / 2)
    assert np.allclose(whole.score, image[0].max((1, 2)) / 20)


def test_volumes_are_cut_along_all_axes():
    image = noise(1, 6, 10, 9)
    method = dimmer(fit="patches", size=(4, 8, 8))
    found = detect_array(method, image)
    assert np.allclose(found.map, image[0] / 2) and found.score.shape == (1,)
    assert len(method.seen) == 8 and set(method.seen) == {(1, 1, 4, 8, 8)}


def test_maps_of_whole_volumes_are_refined():
    image = noise(1, 20, 8, 8)
    plain = detect_volume(dimmer(), image, SPACING)
    assert plain.map.shape == (20, 8, 8) and plain.score.shape == (20,)
    assert np.allclose(plain.map, image[0] / 2)
    bright = detect_volume(dimmer(brightest=0.9), image, SPACING)
    assert (bright.map > 0).mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("scale", ["window", "zscore", "percentiles"])
def test_the_healthy_image_comes_back_in_the_unit_of_the_image(scale):
    values = noise(2, 16, 12)
    values[:, :3] = 0
    image = Image.from_array(values, SPACING, "a.u.")
    found = Model(dimmer(scale=scale, percentiles=(0.0, 100.0)).eval()).detect(image)
    healthy, map = found.healthy.numpy()[0], found.map.numpy()[0]
    assert found.healthy.unit == "a.u." and found.map.unit == ("a.u." if scale == "window" else None)
    assert found.map.shape == image.shape == found.healthy.shape and found.score.shape == (2,)
    tissue = values > 0
    assert (map >= 0).all() and (scale == "window" or (healthy[~tissue] == 0).all())
    # Averaged into 8 x 8 pixels, only means can be compared, away from the edge.
    towards = {"window": 0, "percentiles": 0, "zscore": values[tissue].mean()}[scale]
    assert healthy[:, 5:].mean() == pytest.approx((values[:, 5:].mean() + towards) / 2, rel=0.02)


def test_which_differences_count():
    image, healthy = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.5]])
    got = {sign: dimmer(residual=sign).residual(image, healthy).tolist() for sign in ("absolute", "bright", "dark")}
    assert got == {"absolute": [[0.5, 0.5]], "bright": [[0.0, 0.5]], "dark": [[0.5, 0.0]]}
