import pytest
import torch
from torch import nn

from ganatomy.losses.adversarial import gradient_penalty
from ganatomy.nets import residual


def count(network, *args, **options):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in network(*args, **options).parameters())


def test_parameters_of_cyclegan():
    assert count(residual.ResNetGenerator, 3, 3) == 11_378_179
    assert count(residual.ResNetGenerator, 3, 3, blocks=6) == 11_378_179 - 3 * 2 * (9 * 256 * 256 + 256)


@pytest.mark.parametrize("size", [(8, 8), (16, 24)])
def test_cyclegan_generator_keeps_the_size(size):
    network = residual.ResNetGenerator(1, 2, width=4, blocks=2)
    image = network(torch.randn(1, 1, *size))
    assert image.shape == (1, 2, *size)
    assert image.abs().max() <= 1
    linear = residual.ResNetGenerator(1, 1, width=4, blocks=1, norm="none", output="linear")
    with torch.no_grad():
        linear[-2].bias.fill_(9.0)
    assert linear(torch.randn(1, 1, *size)).min() > 1


def test_cyclegan_generator_pads_by_reflection():
    network = residual.ResNetGenerator(1, 1, width=4, blocks=2)
    modes = [layer.padding_mode for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert modes == ["reflect", "zeros", "zeros", *["reflect"] * 4, "reflect"]


def test_residual_blocks_add():
    block = residual.Residual(nn.Conv2d(2, 2, 3, padding=1, bias=False))
    image = torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(block(image) - image, block.branch(image))


def test_parameters_of_srgan():
    blocks = 32 * (9 * 64 * 64 + 128) + 16
    tail = 9 * 64 * 64 + 128 + 2 * (9 * 64 * 256 + 256 + 1)
    ends = 81 * 3 * 64 + 64 + 1 + 81 * 64 * 3 + 3
    assert count(residual.SRResNet, 3, 3) == blocks + tail + ends
    widths = [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    convolutions = 9 * 3 * 64 + 64 + sum(9 * before * after + 2 * after for before, after in widths)
    dense = 512 * 36 * 1024 + 1024 + 1024 + 1
    assert count(residual.SRDiscriminator, 3, (96, 96)) == convolutions + dense


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_srresnet_enlarges(factor):
    network = residual.SRResNet(1, 2, width=4, blocks=1, factor=factor)
    assert network(torch.randn(1, 1, 6, 5)).shape == (1, 2, 6 * factor, 5 * factor)


def test_srresnet_refuses_other_factors():
    with pytest.raises(ValueError, match="3"):
        residual.SRResNet(1, 1, factor=3)


def test_sr_discriminator_takes_any_size():
    assert residual.SRDiscriminator(1, (50, 37), 2, 8)(torch.randn(2, 1, 50, 37)).shape == (2, 1)


def test_parameters_of_the_residual_wgan_gp_pair():
    def block(before, between, after, norm):
        return norm * (before + between) + 9 * before * between + 9 * between * after + after + before * after + after

    up = [(512, 512), (512, 256), (256, 128), (128, 64)]
    generator = 129 * 512 * 16 + sum(block(a, b, b, 2) for a, b in up) + 2 * 64 + 9 * 64 * 3 + 3
    assert count(residual.PreactivationGenerator) == generator
    down = [(64, 128), (128, 256), (256, 512), (512, 512)]
    critic = 9 * 3 * 64 + 64 + sum(block(a, a, b, 2) for a, b in down) + 512 * 16 + 1
    assert count(residual.PreactivationCritic) == critic


def test_preactivation_blocks_resample_both_paths():
    image = torch.randn(1, 2, 6, 6)
    down, up = (residual.preactivation_block(2, 3, way, "none") for way in ("down", "up"))
    assert down(image).shape == (1, 3, 3, 3)
    assert up(image).shape == (1, 3, 12, 12)
    nn.init.zeros_(down.branch[-2].weight)
    nn.init.zeros_(down.branch[-2].bias)
    wanted = nn.functional.avg_pool2d(down.shortcut[1](image), 2)
    torch.testing.assert_close(down(image), wanted)


@pytest.mark.parametrize(("way", "sides"), [("up", [12, 12]), ("down", [6, 6])])
def test_preactivation_blocks_convolve_at_the_larger_size(way, sides):
    block = residual.preactivation_block(2, 3, way, "batch")
    seen = []
    for layer in block.branch:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    block(torch.randn(1, 2, 6, 6))
    assert seen == sides


@pytest.mark.parametrize("size", [(16, 16), (19, 14)])
def test_preactivation_pair_at_any_size(size):
    generator = residual.PreactivationGenerator(5, 1, size, (8, 8, 4))
    critic = residual.PreactivationCritic(1, size, (4, 8, 8))
    image = generator(torch.randn(1, 5))
    assert image.shape == (1, 1, *size)
    assert critic(image).shape == (1, 1)


@pytest.mark.parametrize("norm", ["layer", "none", "instance"])
def test_critics_take_gradient_penalties(norm):
    critic = residual.PreactivationCritic(1, (4, 4), (2, 3), norm).double()
    image = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(critic, image.clone().requires_grad_(), fast_mode=True)
    assert torch.autograd.gradgradcheck(critic, image.clone().requires_grad_(), fast_mode=True)
    gradient_penalty(critic, image, torch.randn_like(image), torch.rand(2)).backward()
    assert critic[0].weight.grad.abs().sum() > 0


def test_layer_normalised_critics_judge_each_sample_alone():
    critic = residual.PreactivationCritic(1, (16, 16), (4, 8, 8))
    image = torch.randn(4, 1, 16, 16)
    torch.testing.assert_close(critic(image)[1:2], critic(image[1:2]), atol=1e-5, rtol=1e-4)


def test_parameters_of_the_constrained_autoencoder():
    def conv(before, after):
        return 9 * before * after + 2 * after

    down = sum(conv(f, f) + conv(f, 2 * f) + conv(f, 2 * f) for f in (16, 32, 64, 128))
    assert count(residual.ResidualEncoder, 1, (128, 128)) == conv(1, 16) + down + 256 * 64 * 128 + 128
    up = sum(conv(f, f) + 2 * conv(f, f // 2) for f in (128, 64, 32, 16))
    assert count(residual.ResidualDecoder, 128, 1, (128, 128)) == 129 * 256 * 64 + 9 * 256 * 128 + 128 + up + 9 * 8 + 1


@pytest.mark.parametrize("size", [(32, 32), (50, 41)])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_autoencoder_at_any_size(size, norm):
    encoder = residual.ResidualEncoder(1, size, 6, width=4, blocks=3, norm=norm)
    decoder = residual.ResidualDecoder(6, 1, size, width=4, blocks=3, norm=norm)
    image = torch.randn(1, 1, *size)
    code = encoder(image)
    assert code.shape == (1, 6)
    assert decoder(code).shape == image.shape


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (residual.ResNetGenerator(1, 1, width=2, blocks=1), (1, 1, 8, 8)),
        (residual.SRResNet(1, 1, width=2, blocks=1, factor=2), (1, 1, 4, 4)),
        (residual.SRDiscriminator(1, (16, 16), 2, 3), (1, 1, 16, 16)),
        (residual.PreactivationGenerator(2, 1, (8, 8), (2, 2)), (1, 2)),
        (residual.ResidualEncoder(1, (8, 8), 2, 2, 1), (1, 1, 8, 8)),
        (residual.ResidualDecoder(2, 1, (8, 8), 2, 1), (1, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_gradients_and_memory_format(network, shape):
    network = network.double().eval()
    image = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, image, fast_mode=True)
    before = network(image)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(image), before)
