import pytest
import torch
from torch import nn

from ganatomy.nets.mlp import MLP, Maxout, MaxoutDiscriminator, init_uniform


def count(network, *args, **options):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in network(*args, **options).parameters())


def test_parameters_of_the_first_adversarial_pair():
    assert count(MLP, (100, 1200, 1200, 784), output="sigmoid") == 101 * 1200 + 1201 * 1200 + 1201 * 784
    assert count(MaxoutDiscriminator, 784) == 785 * 1200 + 241 * 1200 + 241


def test_maxout_takes_the_largest_piece():
    layer = Maxout(1, 2, pieces=2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0], [-1.0], [2.0], [0.0]]))
        layer.linear.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 5.0]))
    assert layer(torch.tensor([[3.0], [-4.0]])).tolist() == [[3.0, 6.0], [4.0, 5.0]]


def test_layers_of_an_mlp():
    network = MLP((4, 8, 6, 2), "leaky", dropout=0.5)
    kinds = [type(layer) for layer in network]
    hidden = [nn.Linear, nn.LeakyReLU, nn.Dropout]
    assert kinds == [*hidden, *hidden, nn.Linear, nn.Identity]
    assert network(torch.randn(1, 4)).shape == (1, 2)
    assert [type(layer) for layer in MLP((3, 1))] == [nn.Linear, nn.Identity]


def test_uniform_initialisation():
    network = MLP((50, 400, 50))
    init_uniform(network, 0.05)
    assert 0.0499 < network[0].weight.abs().max() <= 0.05
    assert network[0].bias.abs().sum() == 0
    assert MaxoutDiscriminator(64)[2].linear.weight.abs().max() <= 0.005


def test_maxout_discriminator_takes_images():
    network = MaxoutDiscriminator(16, (6, 4), 3).eval()
    assert network(torch.randn(2, 1, 4, 4)).shape == (2, 1)
    assert network(torch.randn(1, 16)).shape == (1, 1)


@pytest.mark.parametrize(
    "network", [MLP((4, 5, 1), "tanh"), MLP((4, 5, 1), "leaky"), MaxoutDiscriminator(4, (3, 2), 2, limit=1.0)]
)
def test_gradients_and_their_gradients(network):
    network = network.double().eval()
    image = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, image)
    assert torch.autograd.gradgradcheck(network, image)
