"""The number of operations of a training."""

import pytest
import torch

from ganatomy import catalogue
from ganatomy.training.cost import BACKWARD, training_flops


def built(slug, **values):
    kind = catalogue.load(slug)
    return kind.of(kind.Config.preset("small", **values))


def test_the_products_of_a_known_network_are_counted():
    """L1 alone: one pass of the U-Net, each layer of which is counted by its weights and the pixels they meet."""
    method = built("pix2pix", adversarial_weight=0.0, batch_size=2, size=(32, 64))
    met, by_hand = [], 0
    layers = [m for m in method.generator.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(lambda *found: met.append(found)) for layer in layers]
    method.generator(torch.zeros(2, 1, 32, 64))
    for hook in hooks:
        hook.remove()
    for layer, (given,), result in met:
        batch, _, height, width = (given if isinstance(layer, torch.nn.ConvTranspose2d) else result).shape
        by_hand += 2 * batch * layer.weight.numel() * height * width
    rounds = sum(stage.rounds for stage in method.stages())
    assert training_flops(method) == BACKWARD * by_hand * rounds


@pytest.mark.parametrize(("slug", "values"), [("gan", {}), ("wgan-gp", {}), ("mgan", {"steps": 3}), ("pgan", {})])
def test_it_grows_with_the_rounds_and_leaves_the_method_as_it_was(slug, values):
    method = built(slug, **values)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    noise, random = method.noise.generator.get_state(), torch.get_rng_state()
    whole = sum(stage.rounds for stage in method.stages())
    once, twice = training_flops(method), training_flops(method, 2 * whole)
    assert once > 0 and twice == pytest.approx(2 * once)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert torch.equal(method.noise.generator.get_state(), noise) and torch.equal(torch.get_rng_state(), random)


def test_a_wider_network_costs_more():
    assert training_flops(built("pix2pix", width=32)) > 2 * training_flops(built("pix2pix", width=16))
