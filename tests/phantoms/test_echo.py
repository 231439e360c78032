import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms import label, make, subject
from ganatomy.phantoms.echo import BeatingVentricle

SIZE = 40


@pytest.fixture(scope="module")
def frames() -> list[BeatingVentricle]:
    return [BeatingVentricle(seed, size=SIZE) for seed in range(8)]


def test_two_seeds_show_one_heart_at_both_ends_of_a_beat(frames: list[BeatingVentricle]) -> None:
    assert [label("beating-ventricle", seed) for seed in range(4)] == ["ed", "es", "ed", "es"]
    assert [subject("beating-ventricle", seed) for seed in range(5)] == [0, 0, 1, 1, 2]
    for full, empty in zip(frames[::2], frames[1::2], strict=True):
        assert (full.label, empty.label) == ("ed", "es") and full.ejection_fraction == empty.ejection_fraction
        want = (full.volume - empty.volume) / full.volume
        assert want == pytest.approx(full.ejection_fraction, abs=1e-6)
        inside = [one.masks["ventricle"].sum() for one in (full, empty)]
        assert (inside[0] - inside[1]) / inside[0] == pytest.approx(want, abs=0.03)


def test_the_mask_has_the_volume_of_the_cavity_and_the_wall_keeps_its_own(frames: list[BeatingVentricle]) -> None:
    for one in frames:
        millilitres = float(np.prod(one.image.spacing)) / 1000
        assert one.masks["ventricle"].sum() * millilitres == pytest.approx(one.volume, rel=0.06)
        assert 15 < one.volume < 230
    for full, empty in zip(frames[::2], frames[1::2], strict=True):
        assert empty.masks["wall"].sum() == pytest.approx(full.masks["wall"].sum(), rel=0.12)
        assert (empty.masks["ventricle"] & full.masks["ventricle"]).sum() > 0.7 * empty.masks["ventricle"].sum()


def test_hearts_differ_and_the_same_arguments_give_the_same_volume(frames: list[BeatingVentricle]) -> None:
    assert len({round(one.volume, 3) for one in frames}) == 8
    again = make("beating-ventricle", 5, size=SIZE)
    np.testing.assert_array_equal(again.image.array, frames[5].image.array)
    assert not np.array_equal(frames[4].image.array, frames[5].image.array)


def test_the_image_is_a_sector_of_grey_levels(frames: list[BeatingVentricle]) -> None:
    for one in frames:
        values, sector = one.image.array[0], one.masks["sector"]
        assert values.dtype == np.uint8 and one.image.shape == (SIZE,) * 3 and one.image.header.modality == "US"
        assert one.images["echo"] is one.image
        assert (values[~sector] == 0).mean() > 0.9 and not sector[:, 0, 0].any() and sector[SIZE // 2, 20, SIZE // 2]
        assert (one.masks["ventricle"] & sector).sum() > 0.93 * one.masks["ventricle"].sum()


def test_blood_is_dark_between_walls_with_speckle(frames: list[BeatingVentricle]) -> None:
    for one in frames:
        values = one.image.array[0].astype(float)
        wall = one.masks["wall"] & one.masks["sector"]
        assert values[one.regions["blood"]].mean() + 20 < values[wall].mean()
        assert values[wall].std() > 10


def test_a_poor_volume_shows_less_contrast_than_a_clear_one() -> None:
    clear, poor = (BeatingVentricle(2, size=SIZE, quality=quality) for quality in (1.0, 0.0))
    np.testing.assert_array_equal(clear.masks["ventricle"], poor.masks["ventricle"])
    contrast = [
        one.image.array[0][one.masks["wall"]].mean() - one.image.array[0][one.regions["blood"]].mean()
        for one in (clear, poor)
    ]
    assert contrast[0] > contrast[1] + 5


@pytest.mark.parametrize("options", [{"size": 7}, {"quality": -0.1}, {"quality": 1.1}])
def test_impossible_requests_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        make("beating-ventricle", 0, **options)
    with pytest.raises(UserError, match="no label 'mid'"):
        BeatingVentricle(0, label="mid")
