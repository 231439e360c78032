"""Stains: Beer and Lambert's law, colour deconvolution, the stains of pictures, and transfers of colour."""

import numpy as np
import pytest
from skimage.color import hed_from_rgb, rgb_from_hed, separate_stains

from ganatomy.physics import stains as st

RUIFROK = st.unit([st.HAEMATOXYLIN, st.EOSIN])


def angle(first, second):
    return np.degrees(np.arccos(np.clip(st.unit(first) @ st.unit(second), -1, 1)))


def picture(seed=0, count=20_000):
    """Return densities and amounts of pixels of which half have much of each stain and next to none of the other."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(0, 0.05, (count, 2))
    found[: count // 2, 0] = rng.uniform(0.5, 1.5, count // 2)
    found[count // 2 :, 1] = rng.uniform(0.3, 1.0, count - count // 2)
    return found @ RUIFROK, found


def test_optical_density_and_its_inverse():
    colour = np.array([150.0, 80.0, 160.0])
    density = st.optical_density(colour)
    np.testing.assert_allclose(density, [0.53063, 1.15924, 0.46609], atol=1e-5)
    np.testing.assert_allclose(st.transmitted(density), colour)
    assert st.optical_density(0) == st.optical_density(1) == pytest.approx(np.log(255))
    np.testing.assert_allclose(st.transmitted([0.8, 0.4] @ RUIFROK), [147.29, 97.64, 194.49], atol=0.005)


def test_vectors_of_ruifrok_are_scaled_to_unit_length():
    printed = [np.linalg.norm(one) for one in (st.HAEMATOXYLIN, st.EOSIN, st.DAB)]
    np.testing.assert_allclose(printed, [0.99996, 0.99815, 0.99945], atol=5e-6)
    np.testing.assert_allclose(RUIFROK, [[0.65003, 0.70403, 0.28601], [0.07213, 0.99183, 0.10519]], atol=5e-6)
    assert angle(*RUIFROK) == pytest.approx(39.17, abs=0.005)
    assert RUIFROK[0] @ RUIFROK[1] == pytest.approx(0.775256, abs=1e-6)
    colours = st.transmitted([st.HAEMATOXYLIN, st.EOSIN])
    np.testing.assert_array_equal(colours.round(), [[133, 126, 192], [237, 95, 230]])


def test_colour_deconvolution_has_the_published_numbers():
    density = st.optical_density([150, 80, 160])
    cross, residual = (st.completed(RUIFROK, third) for third in ("cross", "residual"))
    np.testing.assert_allclose(cross[2], [-0.33186, -0.07559, 0.94030], atol=5e-6)
    np.testing.assert_allclose(residual[2], [0.62195, 0, 0.78306], atol=5e-6)
    dab = st.unit([st.HAEMATOXYLIN, st.EOSIN, st.DAB])
    for matrix, found in (
        (cross, [0.84045, 0.58551, 0.17454]),
        (residual, [0.40323, 0.88256, 0.32938]),
        (dab, [0.63484, 0.55032, 0.29188]),
    ):
        np.testing.assert_allclose(st.amounts(density, matrix), found, atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.inv(cross),
        [[1.48907, -1.08228, -0.33186], [-0.16265, 1.11793, -0.07559], [0.51246, -0.29209, 0.94030]],
        atol=1e-5,
    )
    np.testing.assert_allclose(st.amounts(density, RUIFROK), [0.84045, 0.58551], atol=1e-5)


def test_colour_deconvolution_is_that_of_scikit_image_in_natural_logarithms():
    colours = np.random.default_rng(0).uniform(20, 250, (4, 5, 3))
    theirs = separate_stains(colours / 255, hed_from_rgb) * -np.log(1e-6)
    # scikit-image takes stains as they are printed and cuts negative amounts.
    ours = st.amounts(st.optical_density(colours), rgb_from_hed)
    np.testing.assert_allclose(np.maximum(ours, 0), theirs, atol=1e-9)
    np.testing.assert_allclose(rgb_from_hed, [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def test_macenko_finds_both_stains_by_pixels_of_which_any_channel_is_stained():
    density, _ = picture()
    found = st.macenko(density)
    assert [angle(one, true) for one, true in zip(found, RUIFROK, strict=True)] == pytest.approx([0, 0], abs=0.1)
    # The paper's rule leaves out eosin, which hardly absorbs red.
    missed = st.macenko(density, stained="all")
    assert angle(missed[0], RUIFROK[0]) < 1 and angle(missed[1], RUIFROK[1]) > 30


def test_slide_that_is_normalised_to_has_the_published_colours():
    np.testing.assert_allclose(np.linalg.norm(st.TARGET, axis=1), 1, atol=1e-4)
    assert angle(*st.TARGET) == pytest.approx(22.3, abs=0.05)
    colours = st.transmitted(st.TARGET, st.TARGET_WHITE)
    np.testing.assert_allclose(colours, [[136.7, 116.8, 159.9], [193.4, 107.7, 137.4]], atol=0.05)


@pytest.mark.parametrize(
    ("sparsity", "biased"), [(0.01, (0.794367, 0.394367)), (0.1, (0.743670, 0.343670)), (0.0, (0.8, 0.4))]
)
def test_sparse_amounts_are_biased_by_their_penalty(sparsity, biased):
    density = np.array([0.8, 0.4]) @ RUIFROK
    np.testing.assert_allclose(st.sparse_amounts(density, RUIFROK, sparsity), biased, atol=1e-6)


def test_sparse_amounts_are_never_negative_and_the_best_ones():
    density = np.random.default_rng(1).uniform(0, 1, (200, 3))
    found = st.sparse_amounts(density, RUIFROK, 0.05)

    def loss(amounts):
        return 0.5 * ((density - amounts @ RUIFROK) ** 2).sum(-1) + 0.05 * amounts.sum(-1)

    assert found.min() == 0
    for change in np.random.default_rng(2).normal(0, 0.02, (20, *found.shape)):
        assert (loss(np.maximum(found + change, 0)) >= loss(found) - 1e-12).all()


def test_vahadane_finds_both_stains():
    density, _ = picture()
    found = st.vahadane(density)
    off = [angle(one, true) for one, true in zip(found, RUIFROK, strict=True)]
    assert off == pytest.approx([0.8, 1.2], abs=0.15)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)


def test_pictures_are_restained_with_the_strength_of_the_other_slide():
    density, found = picture()
    own = st.strengths(found)
    again = st.restained(st.amounts(density, RUIFROK), own, RUIFROK, own)
    np.testing.assert_allclose(again, density, atol=1e-9)
    other = st.amounts(st.restained(found, own, st.TARGET, st.TARGET_STRENGTHS), st.TARGET)
    np.testing.assert_allclose(st.strengths(other), st.TARGET_STRENGTHS)
    assert np.isfinite(st.restained(0 * found, 0 * own, st.TARGET, st.TARGET_STRENGTHS)).all()


def test_pictures_without_stain_are_refused():
    for search in (st.macenko, st.vahadane):
        with pytest.raises(ValueError, match="only 0 pixels have an optical density above"):
            search(np.zeros((4, 4, 3)))


def test_opponent_colours_have_the_published_numbers_and_an_exact_inverse():
    colour = np.array([0.5, 0.25, 0.75])
    np.testing.assert_allclose(st.LMS @ colour, [0.36528, 0.33810, 0.67755], atol=1e-5)
    np.testing.assert_allclose(st.to_opponent(colour), [-0.62203, -0.23279, 0.02374], atol=1e-5)
    np.testing.assert_allclose(st.to_opponent(np.ones(3)), [-0.00095, 0.00076, 0.00009], atol=1e-5)
    np.testing.assert_allclose(st.OPPONENT @ st.OPPONENT.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(st.from_opponent(st.to_opponent(colour)), colour, atol=1e-12)
    printed = [[4.4679, -3.5873, 0.1193], [-1.2186, 2.3809, -0.1624], [0.0497, -0.2439, 1.2045]]
    # The printed inverse does not give colours back.
    assert np.abs(printed @ st.LMS - np.eye(3)).max() == pytest.approx(0.007, abs=0.001)


def test_reinhard_gives_a_picture_the_moments_of_another_one():
    rng = np.random.default_rng(3)
    given, other = rng.uniform(0.3, 0.9, (50, 3)), rng.uniform(0.4, 0.6, (40, 3))
    mean, spread = st.moments(st.to_opponent(other))
    made = st.to_opponent(st.reinhard(given, mean, spread))
    np.testing.assert_allclose(made.mean(0), mean, atol=1e-9)
    np.testing.assert_allclose(made.std(0), spread, atol=1e-9)
    flat = st.reinhard(np.full((5, 3), 0.5), mean, spread)
    np.testing.assert_allclose(st.to_opponent(flat), np.tile(mean, (5, 1)), atol=1e-9)
