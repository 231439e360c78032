"""Inputs of discriminators: conditional ones score an image together with its source."""

import pytest
import torch
from small import Samples, build

from ganatomy.game import moves


def shown(method, network, stage=-1):
    """Return all inputs of a network in one round, in order, and the batch."""
    stage, seen = method.stages()[stage], []
    handle = network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    samples = Samples(method, stage)
    list(moves(stage.turns(samples)))
    handle.remove()
    return seen, next(Samples(method, stage))


def same(first, second):
    return first.shape == second.shape and torch.allclose(first, second, atol=1e-6)


def test_the_adversary_of_pix2pix_sees_what_an_image_was_made_of():
    method = build("pix2pix", jitter=0, t1={"channels": 3})
    (real, fake, again), batch = shown(method, method.discriminator)
    assert all(same(pair[:, :3], batch["t1"]) for pair in (real, fake, again))
    assert same(real[:, 3:], batch["t2"]) and same(fake[:, 3:], method.restore(batch["t1"]).detach())
    assert torch.equal(fake, again), "both turns judge one fake"


def test_the_adversary_of_sagan_sees_the_low_dose_beside_both_doses():
    method = build("sagan-ct", dropout=0.0)
    (real, fake, again), batch = shown(method, method.discriminator)
    low, target = method.inside(batch["input"]), method.inside(batch["target"])
    assert not same(low, target)
    assert all(same(pair[:, :1], low) for pair in (real, fake, again))
    assert same(real[:, 1:], target)
    assert same(fake[:, 1:], method.generate(low).detach()) and torch.equal(fake, again)


@pytest.mark.parametrize("slug", ["wolterink-ldct", "wgan-vgg", "dagan", "gancs", "srgan"])
def test_other_adversaries_see_the_image_alone(slug):
    method = build(slug)
    name = "critic" if hasattr(method, "critic") else "discriminator"
    seen, batch = shown(method, getattr(method, name))
    channels = {"dagan": 1, "gancs": 1}.get(slug, next(iter(batch.values())).shape[1])
    assert seen and all(image.shape[1] == channels for image in seen)


def test_csmri_refinement_shows_its_discriminator_images_made_earlier():
    method = build("csmri-refinement", pool=4, refinement_batch_size=4, dropout=0.0)
    stage = method.stages()[-1]
    samples = Samples(method, stage)
    list(moves(stage.turns(samples)))
    old = method.pool.images.clone()
    assert int(method.pool.filled) == 4
    seen = []
    method.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    list(moves(stage.turns(samples)))
    _, judged, _, new = seen
    earlier = [any(torch.equal(image, one) for one in old) for image in judged]
    now = [any(torch.equal(image, one) for one in new) for image in judged]
    assert all(a != b for a, b in zip(earlier, now, strict=True)) and any(earlier) and any(now)
    assert not any(torch.equal(image, one) for image in new for one in old)
