import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.physics.resolution import Bicubic, Decimation, ThickSlices, Truncation, lanczos

KINDS = (
    Bicubic((1, 2, 4), blur=1.0),
    Decimation((2, 2, 2)),
    Decimation((4, 1, 2), blur=2.0),
    ThickSlices((3, 1, 1)),
    ThickSlices((4, 1, 1), "gaussian"),
    Truncation((1, 2, 2)),
    Truncation((2, 1, 2), "hann"),
)


def bicubic(factor, blur=0.0):
    return Bicubic((1, factor, factor), blur)


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_a_ramp_stays_a_ramp_through_the_middles_of_the_new_pixels(blur):
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)
    low = bicubic(4, blur)(ramp)
    assert low.shape == (1, 1, 16, 16)
    assert torch.allclose(low[0, 0, 8, 3:13], 4 * torch.arange(3.0, 13) + 1.5, atol=1e-3)
    np.testing.assert_allclose(bicubic(4).interpolated(low[0].numpy())[..., 24:40], ramp[0, ..., 24:40], atol=1e-2)


def test_brightness_stays_and_detail_goes():
    image = torch.rand(2, 3, 32, 32)
    low = bicubic(2, 1.0)(image)
    assert torch.allclose(low.mean((2, 3)), image.mean((2, 3)), atol=0.02)
    assert low.std() < 0.5 * image.std()


def test_channels_and_samples_do_not_mix():
    image = torch.rand(2, 3, 16, 16)
    alone = bicubic(4, 1.0)(image[1:, 2:])
    assert torch.allclose(bicubic(4, 1.0)(image)[1:, 2:], alone, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_flat_images_stay_flat_on_the_grid_that_is_stated(kind):
    fine = torch.full((2, 1, 24, 16, 16), 0.3)
    coarse = kind(fine)
    assert list(coarse.shape[2:]) == [extent // times for extent, times in zip((24, 16, 16), kind.scale, strict=True)]
    torch.testing.assert_close(coarse, torch.full_like(coarse, 0.3))
    back = kind.interpolated(coarse[0, 0].numpy())
    np.testing.assert_allclose(back, fine[0, 0].numpy(), rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.same_grid])
def test_interpolation_of_a_coarse_ramp_is_the_ramp_again(kind, axis):
    ramp = torch.arange(72.0).expand(24, 24, 72).movedim(2, axis)
    back = torch.from_numpy(kind.interpolated(kind(ramp).numpy()))
    away = 5 * kind.scale[axis]
    inside = (image.narrow(axis, away, 72 - 2 * away) for image in (back, ramp))
    torch.testing.assert_close(*inside, atol=0.05, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 5), st.integers(1, 6), st.integers(0, 9))
def test_a_coarse_slice_depends_on_its_own_and_the_neighbours_slices_only(kind, start, count, seed):
    times, coarse = kind.scale[0], 9
    fine = torch.randn(1, coarse * times, 8, 8, generator=torch.Generator().manual_seed(seed))
    stop = min(start + count, coarse)
    first, last = max(start - kind.neighbours, 0), min(stop + kind.neighbours, coarse)
    part = kind(fine[:, first * times : last * times])[:, start - first : stop - first]
    torch.testing.assert_close(part, kind(fine)[:, start:stop])


def test_an_interpolated_slab_is_part_of_the_interpolated_volume():
    kind, coarse = Decimation((2, 1, 1)), np.random.default_rng(0).random((40, 6, 6), np.float32)
    reach = kind.interpolated_from
    part = kind.interpolated(coarse[20 - reach : 22 + reach])[2 * reach : 2 * reach + 4]
    np.testing.assert_allclose(part, kind.interpolated(coarse)[40:44], atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_learns_through_it(kind):
    fine = torch.rand(1, 1, 12, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(kind(fine).square().sum(), fine)
    assert torch.isfinite(slope).all() and slope.abs().max() > 0


def test_what_is_coarse_is_said_in_words():
    assert bicubic(4, 1.0).words == "4 times fewer rows, 4 times fewer columns, after a Gaussian of SD 1 pixels"
    assert ThickSlices((3, 1, 1)).words == "3 times fewer slices, each with a box profile as thick as 3 fine ones"
    assert Truncation((1, 2, 1)).words == "innermost k-space with 2 times fewer rows, on the same grid"


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="30x32 pixels have no"):
        bicubic(4)(torch.zeros(1, 1, 30, 32))
    with pytest.raises(ValueError, match="have no"):
        Bicubic((2, 2, 2))(torch.zeros(1, 4, 4, 4))
    with pytest.raises(ValueError, match="same pixels"):
        ThickSlices((2, 2, 1))(torch.zeros(1, 4, 4, 4))


def test_lanczos_keeps_means_ramps_and_the_field_of_view():
    flat = np.full((2, 5, 7), 3.5, np.float32)
    np.testing.assert_allclose(lanczos(flat, (1, 4, 3)), 3.5, rtol=1e-6)
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32), (2, 5, 12)).copy()
    fine = lanczos(ramp, (1, 2, 4))
    assert fine.shape == (2, 10, 48)
    places = (np.arange(48) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(fine[0, 0, 12:-12], places[12:-12], atol=0.08)
    waves = np.sin(2 * np.pi * np.arange(24) / 8)[None, None].astype(np.float32)
    wanted = np.sin(2 * np.pi * ((np.arange(72) + 0.5) / 3 - 0.5) / 8)
    np.testing.assert_allclose(lanczos(waves, (1, 1, 3))[0, 0, 9:-9], wanted[9:-9], atol=0.02)
