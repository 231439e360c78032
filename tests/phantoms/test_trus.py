import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images.contours import closed_spline, inside
from ganatomy.phantoms import make, part, subject
from ganatomy.phantoms.trus import SIX, ProstateTRUS, on_border

SIZE = 96


@pytest.fixture(scope="module")
def frames() -> list[ProstateTRUS]:
    return [ProstateTRUS(seed, size=SIZE) for seed in range(12)]


def pixels(frame: ProstateTRUS) -> np.ndarray:
    """Return row and column of the points on the border."""
    inverse = np.linalg.inv(frame.image.affine)
    places = np.array(list(frame.points["border"].values()))
    return (places @ inverse[:3, :3].T + inverse[:3, 3])[:, 1:]


def test_four_seeds_show_one_gland_and_frames_are_repeatable(frames: list[ProstateTRUS]) -> None:
    assert [subject("prostate-us", seed) for seed in range(6)] == [0, 0, 0, 0, 1, 1]
    again = make("prostate-us", 5, size=SIZE)
    np.testing.assert_array_equal(again.image.array, frames[5].image.array)
    assert not np.array_equal(frames[4].image.array, frames[5].image.array)
    assert part(frames[3], "points:border") is frames[3].points["border"]


def test_points_lie_on_the_border_from_the_front_clockwise(frames: list[ProstateTRUS]) -> None:
    for frame in frames:
        assert tuple(frame.points["border"]) == SIX
        places, mask = pixels(frame), frame.masks["prostate"][0]
        middle = np.argwhere(mask).mean(0)
        angles = np.degrees(np.arctan2(places[:, 1] - middle[1], middle[0] - places[:, 0])) % 360
        np.testing.assert_allclose((angles - 60 * np.arange(6) + 180) % 360, 180, atol=2.5)
        for shift, there in ((0.9, True), (1.1, False)):
            rows, columns = (middle + shift * (places - middle)).round().astype(int).T
            assert (mask[rows, columns] == there).all()
        # The patient's left is on the right of the frame, and x grows to the right of the body.
        assert frame.points["border"]["left anterior"][0] < frame.points["border"]["right anterior"][0]
        assert frame.points["border"]["anterior"][1] > frame.points["border"]["posterior"][1]


def test_the_spline_through_the_points_is_nearly_the_gland(frames: list[ProstateTRUS]) -> None:
    found = []
    for frame in frames:
        mask, own = frame.masks["prostate"][0], inside(closed_spline(pixels(frame)), (SIZE, SIZE))
        found.append(2 * (mask & own).sum() / (mask.sum() + own.sum()))
    assert min(found) > 0.93 and np.mean(found) > 0.96
    assert all(300 < mask.sum() * (80 / SIZE) ** 2 < 2600 for mask in (one.masks["prostate"] for one in frames))


def test_frames_are_sectors_of_grey_levels_with_the_gland_inside(frames: list[ProstateTRUS]) -> None:
    for frame in frames:
        values, sector = frame.image.array[0], frame.masks["sector"]
        assert values.dtype == np.uint8 and frame.image.header.modality == "US" and frame.images["us"] is frame.image
        assert not sector[0, -1, SIZE // 2] and sector[0, SIZE // 2, SIZE // 2]
        assert (frame.masks["prostate"] & sector).sum() > 0.97 * frame.masks["prostate"].sum()
        assert (values[~sector] == 0).mean() > 0.9 and values[sector].std() > 15


def test_a_clear_gland_is_darker_than_what_surrounds_it_and_its_core_is_darkest() -> None:
    for seed in (1, 2, 5):
        frame = ProstateTRUS(seed, size=SIZE, quality=1.0)
        values, gland, core = (
            frame.image.array[0].astype(float),
            frame.masks["prostate"],
            frame.regions["transition zone"],
        )
        rim = gland & ~core
        around = np.zeros_like(gland)
        rows, columns = np.nonzero(gland[0])
        around[0, rows.min() : rows.max() + 1, max(columns.min() - 5, 0) : columns.max() + 6] = True
        around &= ~gland
        assert values[core].mean() < values[rim].mean() < values[around].mean()


def test_points_can_be_more_and_impossible_frames_are_refused() -> None:
    assert list(ProstateTRUS(0, size=32, count=8).points["border"]) == [str(place) for place in range(8)]
    for options in ({"size": 8}, {"count": 2}, {"quality": 1.5}):
        with pytest.raises(UserError, match="cannot be drawn"):
            ProstateTRUS(0, **options)


def test_rays_start_at_the_centroid() -> None:
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    outline = np.stack([5 + 4 * np.sin(angles), 3 - 2 * np.cos(angles)], 1)
    np.testing.assert_allclose(on_border(outline, 4), [[5, 1], [9, 3], [5, 5], [1, 3]], atol=1e-3)
