from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy.case import QUANTILES, Case, Sample, intensity_quantiles, intensity_statistics
from ganatomy.images.codecs import PercentileWindow, Window, ZScore
from ganatomy.images.image import axial_affine
from ganatomy.inference.familiarity import unfamiliar
from ganatomy.roles.image import ImageRole

OWN = PercentileWindow(p_low=0, p_high=100, to=(-1.0, 1.0))
FIXED = Window(low=0, high=1000, unit="a.u.")


def brain(seed, factor=1.0):
    """A head of 300 to 900 that fills 40 % of the slices, in dark air."""
    rng = np.random.default_rng(seed)
    values = np.abs(rng.normal(0, 10, (1, 5, 20, 16)))
    values[:, :, 2:18, 4:12] = rng.uniform(300, 900, (1, 5, 16, 8))
    return factor * values


def radiograph(seed):
    """Bright everywhere but at two sides."""
    values = np.random.default_rng(seed).uniform(500, 900, (1, 1, 20, 16))
    values[..., :2] = 0
    return values


def sample(values, codec):
    affines = {"t1": axial_affine((3.0, 1.0, 1.5))}
    return Sample(Case("p", "p", "test", {}), {"t1": np.float32(values)}, affines, {"t1": ImageRole("t1", codec)})


def trained(codec, factors=(1.0, 1.1, 0.9)):
    samples = [sample(brain(seed, factor), codec) for seed, factor in enumerate(factors)]
    return SimpleNamespace(fitted=intensity_statistics(samples), roles=samples[0].roles)


@pytest.mark.parametrize("codec", [FIXED, OWN, ZScore()])
def test_an_image_of_another_kind_is_told(codec):
    task = trained(codec)
    assert list(unfamiliar(task, sample(brain(9), codec))) == []
    (told,) = unfamiliar(task, sample(radiograph(0), codec))
    assert told.startswith("t1: its intensities are unlike those of the images that the model was trained on")


def test_the_intensities_of_another_scanner_matter_only_where_all_images_share_a_window():
    other = brain(9, factor=5.0)
    assert len(list(unfamiliar(trained(FIXED), sample(other, FIXED)))) == 1
    assert list(unfamiliar(trained(OWN), sample(other, OWN))) == []


def test_the_range_of_the_training_cases_is_told_with_the_image_s_own_place():
    (told,) = unfamiliar(trained(FIXED), sample(np.full((1, 2, 4, 6), 800.0), FIXED))
    assert "median at 80% of the scale, there 1% to 2%" in told


def test_nothing_is_told_of_models_that_do_not_know_their_training_images():
    task = SimpleNamespace(fitted={}, roles={})
    assert list(unfamiliar(task, sample(radiograph(0), FIXED))) == []


def test_quantiles_of_many_slices_are_those_of_some(monkeypatch):
    values = np.random.default_rng(0).random((2, 200, 9, 11)).astype(np.float32)
    monkeypatch.setattr("ganatomy.case.MOST_VOXELS", 5000)
    np.testing.assert_allclose(intensity_quantiles(values), np.quantile(values, QUANTILES), atol=0.03)
