import sys
from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy.tasks.restoration import classical
from ganatomy.tasks.restoration.classical import STRENGTHS, denoisers, slice_by_slice


def disc(rows=40, columns=36):
    y, x = np.indices((rows, columns))
    return np.where((y - 20) ** 2 + (x - 15) ** 2 < 90, 700.0, 200.0).astype(np.float32)


NOISE = 60.0


def noisy(case, start, stop):
    clean = np.stack([disc()] * (stop - start))
    return clean + np.random.default_rng(start).normal(0, NOISE, clean.shape).astype(np.float32), [NOISE] * len(clean)


@pytest.mark.parametrize(("name", "left"), [("non-local means", 0.6), ("total variation", 0.6), ("wavelets", 0.8)])
def test_every_denoiser_removes_noise_and_keeps_the_disc(name, left):
    (method,) = [one for one in denoisers(noisy, "the true noise") if one.name == name]
    assert len(method.settings) == len(STRENGTHS[name])
    told, run = method.settings[1]
    assert told == f"strength {STRENGTHS[name][1]:g} times the true noise"
    made = run(None, 0, 2)
    assert made.shape == (2, 40, 36) and made.dtype == np.float32
    assert np.abs(made - disc()).mean() < left * np.abs(noisy(None, 0, 2)[0] - disc()).mean()
    assert made[:, 20, 15].mean() - made[:, 2, 33].mean() > 400


@pytest.mark.parametrize("name", ["non_local_means", "total_variation", "wavelets"])
def test_strength_is_in_the_unit_of_the_image(name):
    image = noisy(None, 0, 1)[0][0]
    small, large = (getattr(classical, name)(factor * image, factor * NOISE) / factor for factor in (0.01, 10.0))
    np.testing.assert_allclose(small, large, atol=0.5)


def test_slices_without_noise_are_left():
    images = noisy(None, 0, 3)[0]
    made = slice_by_slice(lambda plane, sigma: plane * 0, images, [1.0, 0.0, 2.0])
    assert not made[[0, 2]].any() and np.array_equal(made[1], images[1])


def test_bm3d_is_used_where_the_user_has_it(monkeypatch):
    assert "BM3D" not in [one.name for one in denoisers(noisy, "noise")]
    package = SimpleNamespace(bm3d=lambda image, sigma: image - sigma, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "bm3d", package)
    method = denoisers(noisy, "noise")[-1]
    assert method.name == "BM3D"
    np.testing.assert_allclose(method.settings[1][1](None, 0, 1), noisy(None, 0, 1)[0] - NOISE)
