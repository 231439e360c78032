import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import map_coordinates

from ganatomy.images.augmentation import Augmentation, Movement, rotation_matrix

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
    assert np.allclose(still.resample(patch, "bilinear"), patch, atol=1e-6)


@given(seed=st.integers(0, 10_000), thick=st.booleans())
@settings(max_examples=20, deadline=None)
def test_points_go_where_the_image_goes(seed, thick):
    size, spacing = (23 if thick else 1, 41, 33), (2.0, 0.8, 1.1)
    # Within one voxel of an edge, interpolation meets what lies beyond it.
    first = np.minimum(np.array(size) - 1, 1)
    places = first + np.random.default_rng(seed).uniform(0, 1, (20, 3)) * (np.array(size) - 1 - 2 * first).clip(0)
    movement = drawn(EVERYTHING, seed, size, spacing)
    shown = movement.resample(coordinates(size), "bilinear")
    found = movement.points(places, size)
    inside = ((found >= 0) & (found <= np.array(size) - 1)).all(axis=1)
    sources = np.stack([map_coordinates(part, found[inside].T, order=1) for part in shown], 1)
    assert inside.sum() >= 5 and np.abs(sources - places[inside]).max() < 0.1


def test_a_turn_goes_from_rows_to_columns_and_spares_other_slices():
    movement = Movement(rotation_matrix((np.pi / 2, 0, 0))[1:, 1:], np.zeros(2))
    patch = np.random.default_rng(1).random((1, 1, 15, 15), np.float32)
    turned = movement.resample(patch, "bilinear")
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
    moved = movement.resample(wide, "bilinear")
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
