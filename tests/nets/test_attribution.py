import pytest
import torch
from torch import nn

from ganatomy.nets.attribution import class_activation, gradients, integrated_gradients
from ganatomy.nets.classifier import Classifier


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Classifier(1, 3, widths=(8, 8), maxima=False).eval()


@pytest.fixture
def images():
    return torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def test_the_mean_of_a_class_activation_map_is_the_logit_without_its_bias(network, images):
    for label in range(3):
        maps = class_activation(network, images, label)
        coarse = nn.functional.avg_pool2d(maps, 4)  # of bilinear enlargement, exact but for the borders
        assert maps.shape == images.shape
        logits = network(images)[:, label] - network.head.bias[label]
        assert torch.allclose(maps.mean((1, 2, 3)), logits, atol=0.3 * float(coarse.std()) + 1e-3)
    with pytest.raises(ValueError, match="means over positions alone"):
        class_activation(Classifier(1, 2), images, 0)


def test_gradients_of_a_linear_network_are_its_weights(images):
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    weights = network[1].weight[1].view(1, 1, 16, 16)
    assert torch.allclose(gradients(network, images, 1), weights.expand_as(images))
    assert torch.allclose(integrated_gradients(network, images, 1, steps=3), weights * images, atol=1e-6)


def test_guided_gradients_let_nothing_negative_through(images):
    """y = relu(x0) - relu(x1): only what supports the class is left."""
    network = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(256, 1, bias=False))
    with torch.no_grad():
        network[2].weight.copy_(torch.where(torch.arange(256) % 2 == 0, 1.0, -1.0))
    plain, guided = (gradients(network, images, 0, guided=how).flatten(1) for how in (False, True))
    assert plain.min() == -1 and guided.min() == 0
    assert torch.equal(guided, plain.clamp_min(0))
    assert torch.equal(gradients(network, images, 0).flatten(1), plain), "the network is as before"


@pytest.mark.parametrize("start", [0.0, -1.0])
def test_integrated_gradients_add_up_to_the_change_of_the_logit(network, images, start):
    found = integrated_gradients(network, images, 2, start, steps=100).sum((1, 2, 3))
    change = network(images)[:, 2] - network(torch.full_like(images, start))[:, 2]
    # The start is flat, where group normalisation has a kink, so the sum converges slowly.
    assert torch.allclose(found, change, atol=0.05)
