import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import map_coordinates

from ganatomy.images.augmentation import Augmentation, Movement, mild, rotation_matrix, uneven

EVERYTHING = Augmentation(rotation=(20, 12, 8), scaling=0.2, shift=(0.1, 0.05, 0.15), elastic=1.5, elastic_smoothness=6)


def coordinates(size):
    """Return slice, row and column of every voxel, (3, slices, rows, columns)."""
    return np.stack(np.meshgrid(*[np.arange(extent) for extent in size], indexing="ij")).astype(np.float32)


def close(one, other):
    return abs(float(one - other)) < 1e-5


def drawn(augmentation, seed, size, spacing=(1.0, 1.0, 1.0)):
    movement = augmentation.movement(np.random.default_rng(seed), size, spacing)
    assert movement is not None
    return movement


def test_nothing_changes_with_the_defaults():
    assert not Augmentation().moves and not Augmentation().varies
    rng = np.random.default_rng(0)
    assert Augmentation().movement(rng, (1, 8, 9), (1, 1, 1)) is None
    image = torch.rand(1, 8, 9)
    assert torch.equal(Augmentation().vary({"image": image}, rng)["image"], image)
    assert rng.random() == np.random.default_rng(0).random(), "random numbers were drawn for nothing"


@pytest.mark.parametrize("size", [(1, 41, 33), (21, 41, 33)])
def test_a_standstill_is_the_identity(size):
    axes = 2 if size[0] == 1 else 3
    patch = np.random.default_rng(0).random((2, *size), np.float32)
    still = Movement(np.eye(axes), np.zeros(axes), np.zeros((axes, *size[-axes:])))
    assert still.reach(size) == (0, 0, 0)
    assert np.allclose(still.resample(patch, "linear"), patch, atol=1e-6)


@given(seed=st.integers(0, 10_000), thick=st.booleans())
@settings(max_examples=20, deadline=None)
def test_points_go_where_the_image_goes(seed, thick):
    size, spacing = (23 if thick else 1, 41, 33), (2.0, 0.8, 1.1)
    # Within one voxel of an edge, interpolation meets what lies beyond it.
    first = np.minimum(np.array(size) - 1, 1)
    places = first + np.random.default_rng(seed).uniform(0, 1, (20, 3)) * (np.array(size) - 1 - 2 * first).clip(0)
    movement = drawn(EVERYTHING, seed, size, spacing)
    shown = movement.resample(coordinates(size), "linear")
    found = movement.points(places, size)
    inside = ((found >= 0) & (found <= np.array(size) - 1)).all(axis=1)
    sources = np.stack([map_coordinates(part, found[inside].T, order=1) for part in shown], 1)
    assert inside.sum() >= 5 and np.abs(sources - places[inside]).max() < 0.1


def test_a_turn_goes_from_rows_to_columns_and_spares_other_slices():
    movement = Movement(rotation_matrix((np.pi / 2, 0, 0))[1:, 1:], np.zeros(2))
    patch = np.random.default_rng(1).random((1, 1, 15, 15), np.float32)
    turned = movement.resample(patch, "linear")
    assert np.allclose(turned, np.rot90(patch, 1, (2, 3)), atol=1e-5) or np.allclose(
        turned, np.rot90(patch, -1, (2, 3)), atol=1e-5
    )


def test_anisotropic_voxels_are_turned_and_not_sheared():
    spacing = (1.0, 1.0, 3.0)
    angle = Augmentation(rotation=(90, 0, 0))
    lengths = []
    for seed in range(5):
        matrix = drawn(angle, seed, (1, 30, 30), spacing).matrix
        in_mm = np.diag(spacing[1:]) @ matrix @ np.diag(1 / np.array(spacing[1:]))
        lengths.append(np.linalg.norm(in_mm, axis=0))
        assert np.allclose(in_mm @ in_mm.T, np.eye(2))
    assert np.allclose(lengths, 1)


def test_patches_of_one_slice_stay_in_their_plane():
    assert drawn(EVERYTHING, 0, (1, 20, 30)).planar
    assert not drawn(EVERYTHING, 0, (5, 20, 30)).planar


def test_bends_have_the_stated_size_in_mm():
    spacing, found = (1.0, 0.5, 2.0), []
    for seed in range(40):
        movement = drawn(Augmentation(elastic=2.0, elastic_smoothness=5.0), seed, (1, 64, 48), spacing)
        found.append([float(np.mean(part**2)) ** 0.5 for part in movement.bend])
    rows, columns = np.sqrt(np.mean(np.square(found), axis=0))
    assert rows * spacing[1] == pytest.approx(2.0, rel=0.15)
    assert columns * spacing[2] == pytest.approx(2.0, rel=0.15)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_nothing_from_beyond_the_reach_is_shown(seed):
    size = (1, 24, 31)
    movement = drawn(EVERYTHING, seed, size)
    _, rows, columns = movement.reach(size)
    wide = np.zeros((1, 1, 24 + 2 * rows + 20, 31 + 2 * columns + 20), np.float32)
    wide[..., :10, :] = wide[..., -10:, :] = wide[..., :10] = wide[..., -10:] = 1
    moved = movement.resample(wide, "linear")
    assert moved[..., 10 + rows : 34 + rows, 10 + columns : 41 + columns].max() < 1e-4


def test_integers_are_neither_invented_nor_rounded():
    largest = 2**32 - 1
    labels = np.zeros((1, 9, 30, 26), np.uint32)
    labels[:, 2:7, 8:20, 6:18], labels[:, 4:6, 10:14, 8:12] = largest, largest - 1
    moved = drawn(EVERYTHING, 3, (9, 30, 26)).nearest(labels)
    assert moved.dtype == np.uint32 and set(np.unique(moved)) == {0, largest - 1, largest}
    assert not np.array_equal(moved, labels)


def test_the_share_that_is_moved():
    rng, augmentation = np.random.default_rng(0), Augmentation(rotation=(5, 0, 0), move_share=0.3)
    moved = [augmentation.movement(rng, (1, 9, 9), (1, 1, 1)) is not None for _ in range(500)]
    assert np.mean(moved) == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"gamma": 2.0}, lambda old, new: close(new.min(), old.min()) and close(new.max(), old.max())),
        ({"contrast": 0.4}, lambda old, new: close(new.mean(), old.mean()) and not close(new.std(), old.std())),
        ({"brightness": 0.4}, lambda old, new: (new - old).std() < 1e-5 and not close(new.mean(), old.mean())),
        ({"noise": 0.4}, lambda old, new: (new - old).std() > 1e-3),
    ],
)  # fmt: skip
def test_each_change_of_intensities_does_what_it_says(options, changed):
    image = torch.rand(2, 13, 17) * 2 - 1
    new = Augmentation(**options).vary({"image": image}, np.random.default_rng(4))["image"]
    assert type(new) is torch.Tensor and new.dtype == torch.float32 and new.shape == image.shape
    assert not torch.equal(new, image) and changed(image, new)


def test_images_change_together_only_where_asked():
    image = torch.rand(1, 13, 17)
    pair = {"t1": image, "t2": image}
    apart = Augmentation(gamma=2.0, contrast=0.3).vary(pair, np.random.default_rng(0))
    alike = Augmentation(gamma=2.0, contrast=0.3, vary_alike=True).vary(pair, np.random.default_rng(0))
    assert not torch.equal(apart["t1"], apart["t2"]) and torch.equal(alike["t1"], alike["t2"])


def test_the_noise_of_a_patch_depends_on_its_generator_alone():
    image, noisy = torch.rand(1, 13, 17), Augmentation(noise=0.1)
    one, other = (noisy.vary({"a": image}, np.random.default_rng(7))["a"] for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, noisy.vary({"a": image}, np.random.default_rng(8))["a"])


@pytest.mark.parametrize("options", [{"rotation": (-1, 0, 0)}, {"scaling": 1.0}, {"gamma": 0.5}, {"move_share": 1.2}])
def test_impossible_numbers_are_refused(options):
    with pytest.raises(ValidationError):
        Augmentation(**options)


def test_cubic_splines_keep_moved_images_sharper_and_within_their_range():
    stripes = np.tile(np.float32([0, 1]), (1, 1, 60, 30))
    spreads = {}
    for interpolation in ("linear", "cubic"):
        shifting = Augmentation(rotation=(10, 0, 0), shift=(0, 0.05, 0.05), interpolation=interpolation)
        moved = [drawn(shifting, seed, (1, 40, 40)) for seed in range(10)]
        shown = [movement.resample(stripes, movement.interpolation)[..., 15:45, 15:45] for movement in moved]
        assert min(map(np.min, shown)) >= 0 and max(map(np.max, shown)) <= 1
        spreads[interpolation] = np.mean([image.std() for image in shown])
    assert spreads["cubic"] > 1.1 * spreads["linear"]


@given(seed=st.integers(0, 10_000), factor=st.floats(1.01, 3), thick=st.booleans())
@settings(max_examples=30, deadline=None)
def test_uneven_brightness_is_smooth_and_never_beyond_its_factor(seed, factor, thick):
    """A wave with one cycle across an image changes by at most 2π / extent of its height from voxel to voxel."""
    shape, across = ((6, 20, 28), (12.0, 40.0, 40.0)) if thick else ((20, 28), (40.0, 40.0))
    field = np.log(uneven(shape, across, factor, np.random.default_rng(seed)).astype(np.float64))
    assert field.shape == shape and np.abs(field).max() <= np.log(factor) + 1e-6
    for axis, extent in enumerate(across):
        assert np.abs(np.diff(field, axis=axis)).max() <= np.log(factor) * 2 * np.pi / extent + 1e-6


def test_uneven_brightness_comes_close_to_its_factor_and_differs_from_draw_to_draw():
    fields = [uneven((40, 40), (40, 40), 1.5, np.random.default_rng(seed)) for seed in range(60)]
    assert max(map(np.max, fields)) > 1.4 and min(map(np.min, fields)) < 1 / 1.4
    assert not np.allclose(fields[0], fields[1])


def test_uneven_brightness_multiplies_the_signal_and_leaves_the_dark():
    image = torch.full((2, 24, 24), 0.2)
    image[:, :8] = -1.0
    new = Augmentation(bias=1.5).vary({"a": image}, np.random.default_rng(3), {"a": -1.0}, (24, 24))["a"]
    factors = (new + 1)[:, 8:] / 1.2
    assert torch.equal(new[:, :8], image[:, :8]) and torch.allclose(factors[0], factors[1])
    assert 1 / 1.5 <= factors.min() < factors.max() <= 1.5 and factors.std() > 1e-3


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_gamma_keeps_the_order_of_values_and_their_limits(seed):
    values = torch.rand(1, 9, 9, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    new = Augmentation(gamma=1.8).vary({"a": values}, np.random.default_rng(seed))["a"]
    order = values.flatten().argsort()
    assert (new.flatten()[order].diff() >= -1e-6).all()
    assert torch.allclose(new.aminmax()[0], values.min(), atol=1e-5)
    assert torch.allclose(new.aminmax()[1], values.max(), atol=1e-5)


def test_noise_has_every_sd_up_to_the_stated_one():
    flat, rng, noisy = torch.zeros(1, 50, 50), np.random.default_rng(0), Augmentation(noise=0.2)
    found = np.array([float(noisy.vary({"a": flat}, rng)["a"].std()) for _ in range(200)])
    assert found.max() < 0.21 and found.mean() == pytest.approx(0.1, rel=0.15) and found.min() < 0.02


def test_blur_spreads_a_point_within_its_slice_by_at_most_the_stated_sd():
    point, rng, wide = torch.zeros(2, 5, 31, 31), np.random.default_rng(1), []
    point[1, 2, 15, 15] = 1.0
    places = torch.arange(31.0) - 15
    for _ in range(40):
        new = Augmentation(blur=2.0).vary({"a": point}, rng)["a"]
        assert not new[0].any() and not new[1, [0, 1, 3, 4]].any() and float(new.sum()) == pytest.approx(1, abs=1e-4)
        wide.append(float((new[1, 2].sum(0) * places**2).sum().sqrt()))
    assert max(wide) < 2.05 and 0.5 < np.mean(wide) < 1.5
    even = torch.full((1, 12, 12), 0.3)
    assert torch.allclose(Augmentation(blur=2.0).vary({"a": even}, rng)["a"], even, atol=1e-6)


def test_values_that_mean_something_keep_their_scale():
    image, everything = torch.rand(1, 20, 20), {"gamma": 2.0, "contrast": 0.3, "brightness": 0.3, "bias": 1.5}
    alone = Augmentation(**everything, varied_images=("ct", "mr"), measured_images=("ct",))
    new = alone.vary({"ct": image, "mr": image}, np.random.default_rng(0))
    assert torch.equal(new["ct"], image) and not torch.equal(new["mr"], image)
    blurred = alone.model_copy(update={"blur": 1.5}).vary({"ct": image}, np.random.default_rng(0))["ct"]
    assert float(blurred.mean()) == pytest.approx(float(image.mean()), abs=0.02) and blurred.std() < image.std()


def test_new_changes_draw_no_numbers_where_they_are_not_asked_for():
    """A configuration without them gives the patches that it gave before they existed."""
    image, old = torch.rand(1, 13, 17), Augmentation(gamma=1.5, contrast=0.2, brightness=0.1, noise=0.05)
    rng = np.random.default_rng(5)
    old.vary({"a": image}, rng)
    expected = np.random.default_rng(5)
    expected.random(), expected.uniform(-1, 1, 3), expected.random(), expected.integers(2**32)
    expected.uniform(-1, 1, 3), expected.random()  # for the image after it
    assert rng.random() == expected.random()


def test_the_parts_of_the_usual_changes():
    whole = mild(("t1", "ct"), ("ct",))
    assert whole.moves and whole.varies and whole.gamma > 1 and whole.blur > 0
    assert whole.among(["ct", "mask"]).varied_images == ("ct",) and not whole.among(["mask"]).varies
    drawn_by_a_network = mild(("t1",), smeared=False)
    assert not drawn_by_a_network.blur and not drawn_by_a_network.noise and drawn_by_a_network.gamma > 1
    assert mild(("ct",), ("ct",)).gamma == 1 and mild(("ct",), ("ct",)).noise > 0
    assert mild().moves and not mild().varies


def test_changes_are_told_in_words():
    assert mild(("t1",)).told == (
        "50 % of the patches are turned by up to 10°, enlarged or shrunk by up to 10 % and shifted by up to 5 % of the "
        "patch; intensities of t1 change in 50 % of the patches: gamma up to 1.4, uneven brightness by a factor of up "
        "to 1.3, blur of up to 1 voxels (SD) and noise of up to 0.05 (SD, in the range of the networks)"
    )
    assert Augmentation().told == "" and mild(("ct",), ("ct",), moved=False, smeared=False).told == ""
