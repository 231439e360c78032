"""Phase contrast and DIC: numbers of both microscopes, what they show of a cell, and the way back to its phase."""

import numpy as np
import pytest

from ganatomy.physics import phase as ph


def bump(size=128, height=0.1, squared=36.0):
    along = np.arange(size) - size // 2
    return height * np.exp(-(along[:, None] ** 2 + along**2) / (2 * squared))


def test_cells_delay_light_by_up_to_some_radians():
    assert ph.phase_of(5.0) == pytest.approx(1.726, abs=5e-4)
    assert ph.phase_of(2.0, 0.02) == pytest.approx(0.46, abs=0.005)
    assert ph.phase_of(8.0, 0.04) == pytest.approx(3.68, abs=0.005)


def test_the_sum_of_the_obscured_airy_pattern_depends_on_the_window_so_it_is_cut_at_its_first_zero():
    sums = [ph.obscured_airy(0.1, 0.02, half).sum() for half in (2, 4, 6, 8, 12, 16)]
    np.testing.assert_allclose(sums, [0.201, 0.236, -0.092, -0.336, 0.227, -0.006], atol=6e-4)
    assert ph.obscured_airy(0.1, 0.02, 3)[3, 3] == pytest.approx(np.pi * (0.1**2 - 0.08**2))
    assert ph.first_zero(0.1, 0.02) == pytest.approx(4.24, abs=0.015)
    kernel = ph.airy_kernel(0.1, 0.02)
    assert kernel.sum() == pytest.approx(1) and kernel.shape == (11, 11) and kernel.min() >= 0
    assert ph.phase_contrast(np.zeros((20, 20)), kernel, ring=0.5) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="between 0 and its radius"):
        ph.airy_kernel(0.1, 0.1)


def test_intensity_behind_the_ring_at_a_point():
    light = [ph.ring_light(np.exp(0.3j), 1.0, ring=0.5, sign=sign) for sign in (1, -1)]
    np.testing.assert_allclose(light, [0.634847, 0.043807], atol=1e-6)


def test_phase_contrast_of_a_small_bump_its_halo_and_the_linear_form():
    given = bump()
    images = {sign: ph.phase_contrast(given, 12.0, ring=0.4, sign=sign, border="wrap") for sign in (1, -1)}
    assert images[1][64, 64] == pytest.approx(0.230192, abs=2e-6)
    assert images[-1][64, 64] == pytest.approx(0.102370, abs=2e-6)
    assert images[-1].max() == pytest.approx(0.165713, abs=2e-6)
    linear = [ph.linear_phase_contrast(given, 12.0, ring=0.4, sign=sign, border="wrap")[64, 64] for sign in (1, -1)]
    np.testing.assert_allclose(linear, [0.223998, 0.096002], atol=2e-6)
    blank = ph.phase_contrast(np.zeros((16, 16)), 12.0, ring=0.4)
    np.testing.assert_allclose(blank, 0.16)


def test_large_phases_are_not_those_of_the_linear_form():
    thick = bump(height=2.0)
    exact, linear = (make(thick, 12.0) for make in (ph.phase_contrast, ph.linear_phase_contrast))
    assert linear.min() < 0 <= exact.min()


def test_dic_of_differences_of_phase():
    np.testing.assert_allclose(ph.interference([0.2, -0.2, 0], 0.0), [0.599335, 0.400665, 0.5], atol=1e-6)
    small = ph.interference(1e-4, 0.0, 0.7)
    assert small == pytest.approx(np.sin(0.35) ** 2 + 0.5 * np.sin(0.7) * 1e-4, abs=1e-8)


@pytest.mark.parametrize("angle", (0.0, np.pi / 4, np.pi / 2))
def test_dic_is_bright_where_the_phase_rises_along_the_shear(angle):
    rows, columns = np.mgrid[:40, :40]
    rising = 0.1 * (np.cos(angle) * columns + np.sin(angle) * rows)
    image = ph.dic(rising, 0.8, angle)
    assert image[20, 20] == pytest.approx(np.sin((0.08 + np.pi / 2) / 2) ** 2, abs=1e-6)
    assert ph.dic(-rising, 0.8, angle)[20, 20] < 0.5
    # A blur of the amplitude leaves a constant slope nearly what it is.
    assert ph.dic(rising, 0.8, angle, blur=1.0)[20, 20] == pytest.approx(image[20, 20], rel=0.02)


def test_a_mirrored_dic_image_has_the_opposite_shadow():
    given = bump(65, height=1.0)
    image = ph.dic(given, 0.6)
    np.testing.assert_allclose(image[::-1, ::-1] - 0.5, 0.5 - image, atol=1e-6)
    assert np.abs(image[:, ::-1] - image).max() > 0.03


def test_the_linear_kernel_of_dic_on_a_ramp():
    kernel, (rows, columns) = ph.dic_kernel(2.0), np.mgrid[:17, :17]
    assert kernel.sum() == pytest.approx(0, abs=1e-12)
    # The value in the middle of a convolution with the ramp x.
    assert (kernel[::-1, ::-1] * columns).sum() == pytest.approx(17.7715, abs=1e-3)
    assert (kernel[::-1, ::-1] * rows).sum() == pytest.approx(17.7715, abs=1e-3)


def test_kernels_of_phase_contrast_have_no_sum_and_equal_the_blur():
    kernel = ph.halo_kernel(3.0)
    assert kernel.sum() == pytest.approx(0, abs=1e-12)
    given = bump(64)
    expected = ph.linear_phase_contrast(given, 3.0, ring=0.5, rest=1.0, sign=1, border="wrap") - 0.25
    placed = np.roll(np.pad(kernel, ((0, 39), (0, 39))), (-12, -12), (0, 1))
    found = np.fft.ifft2(np.fft.fft2(given) * np.fft.fft2(placed)).real
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("microscope", ("phase contrast", "dic"))
def test_restoration_finds_where_a_cell_is(microscope):
    given = bump(96, height=0.3, squared=40.0)
    given = np.roll(given, (11, -17), (0, 1))
    if microscope == "dic":
        found = ph.restored(2 * (ph.dic(given, 1.0) - 0.5), ph.dic_kernel(1.0), smooth=0.001, sparse=0.001, rounds=60)
    else:
        found = ph.restored(0.16 - ph.phase_contrast(given, 8.0), 0.8 * ph.halo_kernel(8.0))
    assert found.min() >= 0
    top = np.array(np.unravel_index(found.argmax(), found.shape))
    assert np.abs(top - [59, 31]).max() <= 2
    assert np.corrcoef(found.ravel(), given.ravel())[0, 1] > 0.85
    # A blank field has no cell.
    assert ph.restored(np.zeros((32, 32)), ph.halo_kernel(4.0)).max() == 0


def test_otsus_threshold_lies_between_two_classes():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0, 0.1, 900), rng.normal(2, 0.1, 100)])
    assert 0.3 < ph.otsu(values) < 1.7
    assert ph.otsu(np.full(10, 3.0)) == 3.0


def test_gaps_are_closed_and_small_parts_removed():
    inside = np.zeros((40, 40), bool)
    inside[5:20, 5:20] = True
    inside[10:13, 10:13] = False
    inside[30:33, 30:33] = True
    found = ph.joined(inside, 3, 50)
    assert found[10:13, 10:13].all() and not found[28:, 28:].any()
    assert found.sum() == 15 * 15
    # Closing does not eat a cell that touches the border.
    inside[:6, 25:] = True
    assert ph.joined(inside, 3, 50)[:6, 25:].all()
