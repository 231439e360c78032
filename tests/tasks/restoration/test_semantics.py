import numpy as np
import pytest
import torch

from ganatomy.case import Case, Sample
from ganatomy.images.codecs import PercentileWindow
from ganatomy.images.image import axial_affine
from ganatomy.roles.image import ImageRole
from ganatomy.roles.labels import LabelRole
from ganatomy.tasks.restoration.semantics import DICE, INTERPRETABILITY, semantic_scores, train_segmenter


def case(number, slices=12, size=30, masked=True, factor=1.0, scale=None):
    """Draw discs on a noisy background; the bright ones are the structure."""
    rng = np.random.default_rng(number)
    y, x = np.indices((size, size))
    image, mask = rng.normal(0, 0.1, (slices, size, size)), np.zeros((slices, size, size), bool)
    for plane, inside in zip(image, mask, strict=True):
        for value in (0.5, 1.0):
            row, column = rng.uniform(7, size - 7, 2)
            disc = (y - row) ** 2 + (x - column) ** 2 < 25
            plane[disc] = value + rng.normal(0, 0.1, disc.sum())
            inside[disc] = value == 1.0
    arrays = {"target": factor * image[None].astype(np.float32)}
    arrays |= {"mask": mask[None].astype(np.uint8)} if masked else {}
    affines = dict.fromkeys(arrays, axial_affine((3.0, 0.9, 0.9)))
    roles = {"target": ImageRole("target", scale), "mask": LabelRole("mask", any_two=True)}
    return Sample(Case(f"c{number}", f"c{number}", "train", {}), arrays, affines, roles)


@pytest.fixture(scope="module")
def segmenter():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train_segmenter([case(number) for number in range(3)], "target")
    torch.set_num_threads(threads)


def test_the_structure_is_found_in_other_cases_and_lost_with_its_contrast(segmenter):
    other = case(9)
    truth, mask = other.arrays["target"][0], other.arrays["mask"][0]
    perfect = semantic_scores(segmenter, truth, truth, mask)
    assert perfect[DICE] > 0.7 and perfect[INTERPRETABILITY] == 1
    faded = semantic_scores(segmenter, np.where(mask > 0, truth - 1, truth), truth, mask)
    assert faded[INTERPRETABILITY] < 0.5
    unknown = semantic_scores(segmenter, truth, -truth, mask)
    assert set(unknown) == {DICE}, "of what is not found in the complete image nothing can be lost"


def test_masks_of_a_few_pixels_say_nothing(segmenter):
    truth = case(9).arrays["target"][0]
    assert semantic_scores(segmenter, truth, truth, np.zeros(truth.shape)) == {}


def test_nothing_is_learned_from_too_few_masks():
    assert train_segmenter([case(0, masked=False), case(1, slices=4)], "target") is None


def test_of_many_slices_a_share_of_every_case_is_held(monkeypatch):
    held = []
    monkeypatch.setattr("ganatomy.tasks.restoration.semantics.MOST", 10)
    monkeypatch.setattr("ganatomy.tasks.restoration.semantics.Segmenter", lambda images, masks: held.append(images))
    cases = [case(number) for number in range(2)]
    train_segmenter(cases, "target")
    np.testing.assert_array_equal(held[0].numpy(), np.concatenate([one.arrays["target"][0, ::3] for one in cases]))


def test_images_of_different_scales_are_learned_from_alike(monkeypatch):
    held = []
    monkeypatch.setattr("ganatomy.tasks.restoration.semantics.Segmenter", lambda images, masks: held.append(images))
    scale = PercentileWindow(p_low=0, p_high=100)
    for factor in (1.0, 50.0):
        train_segmenter([case(3, factor=factor, scale=scale)], "target")
    np.testing.assert_allclose(held[0].numpy(), held[1].numpy(), atol=1e-5)


def test_learning_leaves_the_random_numbers_alone(monkeypatch):
    monkeypatch.setattr("ganatomy.tasks.restoration.semantics.STEPS", 2)
    torch.manual_seed(3)
    want = torch.rand(1)
    torch.manual_seed(3)
    train_segmenter([case(number, size=16) for number in range(2)], "target")
    assert torch.equal(torch.rand(1), want)
