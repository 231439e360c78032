from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ganatomy.errors import UserError
from ganatomy.nets.classifier import Classifier, fit
from ganatomy.nets.features import VGG19Features
from ganatomy.tasks.synthesis import features as module
from ganatomy.tasks.synthesis.features import cached, classifier, features

pytestmark = pytest.mark.usefixtures("one_thread")


def bright(number, seed=0, dims=2):
    """Return dark and bright images in turn, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 2
    shape = (number, 1, *[16] * dims)
    noise = 0.2 * torch.randn(shape, generator=generator)
    return (noise + (labels - 0.5).view(-1, *[1] * (dims + 1))).clamp(-1, 1), labels


def test_random_features_are_standardised_on_training_images():
    images, _ = bright(40)
    found = features("random", images)
    values = found(images)
    assert values.shape == (40, 448) and "random convolutions" in found.name and "standardised" in found.name
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=0.2)
    scale = values.std(axis=0)
    assert np.all((abs(scale - 0.9) < 0.3) | (scale == 0)) and (scale > 0).mean() > 0.9
    assert abs(found(torch.ones(2, 1, 16, 16))).max() < 3
    assert features("random", bright(6, dims=3)[0])(bright(4, dims=3)[0]).shape == (4, 448)


def test_real_features_are_read_again_only_for_the_same_images(tmp_path):
    images, _ = bright(10)
    calls = []

    def compute(shown):
        calls.append(len(shown))
        return shown.flatten(1).double().numpy()

    found = module.Features("flat", compute, images, tmp_path)
    np.testing.assert_array_equal(found.of_real(images), found(images))
    assert calls == [10, 10]
    again = module.Features("flat", compute, images, tmp_path)
    np.testing.assert_array_equal(again.of_real(images), found(images))
    assert calls == [10, 10, 10]
    again.of_real(images + 0.1)
    module.Features("other", compute, images, tmp_path)
    assert len(calls) == 5


def test_a_damaged_or_missing_place_costs_only_time(tmp_path):
    made = cached(tmp_path, lambda: np.arange(3.0), "fact")
    (file,) = (tmp_path / "features").iterdir()
    file.write_bytes(b"damaged")
    np.testing.assert_array_equal(cached(tmp_path, lambda: np.arange(3.0), "fact"), made)
    np.testing.assert_array_equal(cached(tmp_path, lambda: np.zeros(1), "fact"), made)
    (tmp_path / "file").write_text("")
    np.testing.assert_array_equal(cached(tmp_path / "file", lambda: made, "fact"), made)
    np.testing.assert_array_equal(cached(None, lambda: made), made)


def test_an_encoder_learns_classes_or_thumbnails_and_is_kept(tmp_path, monkeypatch):
    images, labels = bright(24)
    monkeypatch.setattr(module, "fit", partial(fit, steps=20))
    by_class = features("in-domain", images, labels, tmp_path)
    by_image = features("in-domain", images, None, tmp_path)
    assert "classify them" in by_class.name and "reconstruct a copy" in by_image.name
    values = by_image(images)
    assert values.shape == (24, 128) and np.isfinite(values).all()

    def never(*arguments, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "fit", never)
    np.testing.assert_array_equal(features("in-domain", images, None, tmp_path)(images), values)


def test_vgg_sees_channels_that_are_no_colours_one_by_one(monkeypatch):
    monkeypatch.setattr(module, "find_vgg19_weights", lambda file: file or Path("here"))
    monkeypatch.setattr(module, "VGG19Features", lambda source: VGG19Features(source="substitute", width=0.02))
    images = torch.rand(4, 2, 16, 16) * 2 - 1
    found = features("vgg19", images)
    assert "substitute" in found.name
    grey = features("vgg19", images[:, :1])(images[:, :1])
    assert found(images).shape == (4, 2 * grey.shape[1])
    with pytest.raises(UserError, match="no volumes"):
        features("vgg19", torch.zeros(2, 1, 8, 8, 8))


def test_a_classifier_learns_and_each_image_has_the_result_it_would_have_alone():
    images, labels = bright(40)
    network = classifier(images, labels, 2, steps=40)
    held, truth = bright(20, seed=1)
    assert (network(held).argmax(1) == truth).all()
    torch.testing.assert_close(network(held)[3:4], network(held[3:4]))
    again = classifier(images, labels, 2, steps=40)
    torch.testing.assert_close(network(held), again(held))
    other = classifier(images, labels, 2, seed=1, steps=40)
    assert not torch.allclose(network(held), other(held))


def test_fitting_leaves_the_random_numbers_alone_and_takes_few_images():
    images, labels = bright(3, dims=3)
    state = torch.get_rng_state()
    network = classifier(images, labels, 2, steps=2)
    torch.testing.assert_close(torch.get_rng_state(), state)
    assert not network.training and network(images).shape == (3, 2)
    assert not any(parameter.requires_grad for parameter in Classifier.parameters(network))


def test_augmentation_is_applied_to_every_batch():
    images, labels = bright(8)
    seen = []

    def augment(shown, generator):
        seen.append(len(shown))
        return -shown

    classifier(images, labels, 2, steps=3, batch=4, augment=augment)
    assert seen == [4, 4, 4]
