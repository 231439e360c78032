"""Slices in several planes: patches, transforms, and the fusion of what networks find in each."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from levels import Levels, case, random_images, volume

from ganatomy.data.batches import PatchDataset, Range
from ganatomy.inference.ensemble import Ensemble
from ganatomy.inference.model import Model
from ganatomy.roles.points import PointsRole
from ganatomy.tasks.segmentation.predictor import SegmentationOptions, SegmentationPredictor
from ganatomy.tasks.segmentation.views import AXES, fuse, in_plane, plane_of, turned, turned_back

SIZE = (5, 7, 6)


def stored(task, **values):
    """Make a prepared sample whose arrays are in memory, as those that are stored."""
    sample = case(task, **values)
    return replace(sample, arrays={role: np.asarray(array) for role, array in sample.arrays.items()})


def half(values):
    return values >= 0.5


def test_streams_draw_whole_slices_of_each_plane():
    image = 4 * np.arange(5 * 7 * 6, dtype=np.float32).reshape(SIZE)
    method = Levels(inputs=("t1",), regions={"lesion": (1,)})
    sample = stored(method.task, t1=image, tumour=(image % 3 == 0).astype(np.uint8))
    slices = {"axial": image, "coronal": image.transpose(1, 0, 2), "sagittal": image.transpose(2, 0, 1)}
    assert [plane_of(SIZE, view) for view in AXES] == [(7, 6), (5, 6), (5, 7)]
    for view, planes in slices.items():
        stream = in_plane(method.annotated(2, (1, *plane_of(SIZE, view))), view)
        assert stream.name == view
        drawn = PatchDataset([Range(sample, 0, 5)], stream, (), 2, (1,))
        for number in range(4):
            patch = drawn[number]
            found = np.rint(1000 * patch["t1"][0].numpy())
            assert any(np.array_equal(found, plane) for plane in planes)
            np.testing.assert_array_equal(patch["tumour"][0].numpy(), found % 3 == 0)


@pytest.mark.parametrize("view", AXES)
def test_volumes_are_turned_and_turned_back(view):
    image = np.arange(2 * 5 * 7 * 6).reshape(2, *SIZE)
    assert turned(image, view).shape[1] == SIZE[AXES[view]]
    np.testing.assert_array_equal(turned_back(turned(image, view), view), image)


def test_three_views_vote_by_majority_and_two_by_union_unless_their_mean_is_asked_for():
    parts = [np.full((1, 1, 1, 3), 0.0, np.float32) for _ in range(3)]
    parts[0][:], parts[1][..., :2], parts[2][..., 0] = 0.9, 0.6, 0.5
    np.testing.assert_allclose(fuse(parts, half, "vote").ravel(), [1, 2 / 3, 1 / 3])
    np.testing.assert_array_equal(half(fuse(parts[:2], half, "vote")).ravel(), [True, True, True])
    np.testing.assert_allclose(fuse(parts, half, "mean").ravel(), [2 / 3, 0.5, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(fuse(parts[2:], half, "vote"), parts[2])


class Views(Levels):
    """Finds what is bright in each view, but above another level in each, and remembers the slices that it saw."""

    sizes: list

    @property
    def views(self):
        levels = {"axial": 0.0, "coronal": 0.2, "sagittal": -0.2}
        return {view: lambda image, add=add: self.found(image, add) for view, add in levels.items()}

    def found(self, image, add):
        self.sizes.append(tuple(image.shape[2:]))
        return (image + add).clamp(0, 1)


@pytest.mark.parametrize("rule", ["vote", "mean"])
def test_a_volume_is_segmented_in_every_view_once_and_fused(rule):
    method = Views(inputs=("t1",), regions={"lesion": (1,)})
    method.sizes = []
    image = random_images("t1", shape=SIZE)["t1"]
    found = Model(method)(volume(image), fusion=rule, probabilities=True)
    labels = found["tumour"].numpy()[0]
    assert found.facts["views"] == ["axial", "coronal", "sagittal"] and found.facts["fusion"] == rule
    shades = np.clip(image[None] / 1000 + np.array([0, 0.2, -0.2]).reshape(3, 1, 1, 1), 0, 1)
    share = (shades >= 0.5).mean(0) if rule == "vote" else shades.mean(0)
    np.testing.assert_allclose(found["probability_lesion"].numpy()[0], share, atol=1e-6)
    np.testing.assert_array_equal(labels, share >= 0.5)
    assert sorted(set(method.sizes)) == [(5, 6), (5, 7), (7, 6)]
    assert len(method.sizes) == sum(SIZE), "every slice is seen once"


class OneView(Views):
    """Sees one view alone, that of its configuration."""

    class Config(Levels.Config):
        view: str = "axial"

    @property
    def views(self):
        return {self.config.view: super().views[self.config.view]}


@pytest.mark.parametrize("rule", ["vote", "mean"])
def test_runs_of_a_view_each_are_fused_like_the_views_of_one_run(rule):
    shared = {"inputs": ("t1",), "regions": {"lesion": (1,)}}
    together = Views(**shared)
    alone = [OneView(**shared, view=view) for view in together.views]
    for method in (together, *alone):
        method.sizes = []
    options = SegmentationOptions(fusion=rule)
    sample = case(together.task, t1=random_images("t1", shape=SIZE)["t1"])
    one = SegmentationPredictor(together, options=options)
    members = {m.config.view: SegmentationPredictor(m, options=options) for m in alone}
    first, second = (np.asarray(predictor.arrays(sample)["probabilities"]) for predictor in (one, Ensemble(members)))
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert (len(np.unique(first)) <= 4) == (rule == "vote")


def test_methods_without_views_are_as_before():
    method = Levels(inputs=("t1",), regions={"lesion": (1,)})
    assert method.views == {} and "views" not in Model(method)(volume(random_images("t1")["t1"])).facts
    assert torch.equal(method.segment(torch.ones(1, 1, 2, 3)), torch.ones(1, 1, 2, 3))


def test_slices_across_another_axis_are_augmented_in_their_own_plane():
    image = random_images("t1", shape=SIZE)["t1"]
    method = Levels(inputs=("t1",), regions={"lesion": (1,)}, augmentation={"shift": (0, 0, 0.4)})
    sample = stored(method.task, t1=image, tumour=(image > 500).astype(np.uint8))
    stream = in_plane(method.annotated(2, (1, *plane_of(SIZE, "sagittal"))), "sagittal")
    drawn = PatchDataset([Range(sample, 0, 5)], stream, (), 2, (1,))
    plain = PatchDataset([Range(sample, 0, 5)], replace(stream, augmentation=None), (), 2, (1,))
    for number in range(3):
        moved, still = (np.rint(1000 * one[number]["t1"][0].numpy()) for one in (drawn, plain))
        assert moved.shape == (5, 7)
        # A shift along the columns of the slice leaves every row with its own values.
        assert all(np.abs(a - a.clip(b.min(), b.max())).max() <= 1 for a, b in zip(moved, still, strict=True))
        assert np.abs(moved - still).max() > 100


def test_roles_without_a_grid_have_no_other_planes():
    method = Levels(inputs=("t1",), regions={"lesion": (1,)})
    sample = stored(method.task, t1=random_images("t1", shape=SIZE)["t1"], tumour=np.zeros(SIZE, np.uint8))
    points = replace(sample, roles={**sample.roles, "tumour": PointsRole("tumour", ("a",))})
    stream = in_plane(method.annotated(2, (1, *plane_of(SIZE, "coronal"))), "coronal")
    with pytest.raises(ValueError, match="tumour: has no grid"):
        PatchDataset([Range(points, 0, 5)], stream, (), 2, (1,))
