import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganatomy.losses.adversarial import gradient_penalty
from ganatomy.nets.aids import GaussianNoise, MinibatchDiscrimination
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator, init_dcgan


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def count(network, *args, **options):
    with torch.device("meta"):
        return parameters(network(*args, **options))


def layers(network, *kinds):
    return [layer for layer in network.modules() if isinstance(layer, kinds)]


def test_parameters_of_the_paper_widths_at_64_pixels():
    dense = 100 * 1024 * 16
    kernels = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    norms = 2 * (1024 + 512 + 256 + 128)
    assert count(DCGenerator, 100, 3, (64, 64)) == dense + kernels + norms + 3
    kernels = 25 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024)
    norms = 2 * (256 + 512 + 1024)
    assert count(DCDiscriminator, 3, (64, 64)) == kernels + 128 + norms + 1024 * 16 + 1


def test_parameters_of_the_kernel_4_variant():
    kernels = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    generator = count(DCGenerator, 100, 3, (64, 64), (512, 256, 128, 64), kernel=4)
    assert generator == kernels + 2 * (512 + 256 + 128 + 64) + 3
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    discriminator = count(DCDiscriminator, 3, (64, 64), (64, 128, 256, 512), kernel=4)
    assert discriminator == kernels + 2 * (128 + 256 + 512) + 64 + 1


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(5, 40), min_size=2, max_size=3),
    st.sampled_from([3, 4, 5]),
    st.integers(1, 3),
    st.booleans(),
)
def test_any_size_in_two_and_three_dimensions(size, kernel, stages, refine):
    channels = (2,) * (stages + refine)
    generator = DCGenerator(3, 2, size, channels, kernel=kernel, refine=refine).eval()
    image = generator(torch.randn(1, 3))
    assert image.shape == (1, 2, *size)
    stages = stages if kernel != 4 else min(stages, int(math.log2(min(size))))
    discriminator = DCDiscriminator(2, size, (2,) * stages, kernel=kernel).eval()
    assert discriminator(image).shape == (1, 1)


def test_a_midline_slice_comes_from_a_base_of_14_by_11():
    network = DCGenerator(100, 1, (220, 172), (8, 4, 4, 2, 2), refine=True)
    assert network.base == (8, 14, 11)
    whole = network.layers(network.project(torch.randn(1, 100)).unflatten(1, network.base))
    assert whole.shape == (1, 1, 224, 176)
    latent = torch.randn(2, 100)
    network.eval()
    whole = network.layers(network.project(latent).unflatten(1, network.base))
    assert torch.equal(network(latent), whole[:, :, 2:222, 2:174])


def test_the_prostate_pair_of_16_pixels():
    generator = DCGenerator(25, 3, (16, 16), (16, 32, 16), kernel=3, norm="none", output="relu", refine=True)
    assert generator.base == (16, 4, 4)
    assert parameters(generator) == 26 * 256 + 9 * 16 * 32 + 32 + 9 * 32 * 16 + 16 + 9 * 16 * 3 + 3
    assert generator(torch.randn(4, 25)).min() >= 0
    discriminator = DCDiscriminator(
        3, (16, 16), (32, 64, 128), kernel=3, strides=(1, 2, 2), norm="none", slope=0.1, noise=0.5, pooling="mean",
        head_dropout=0.5, outputs=2,
    )  # fmt: skip
    assert parameters(discriminator) == 9 * (3 * 32 + 32 * 64 + 64 * 128) + 32 + 64 + 128 + 129 * 2
    assert discriminator.features(torch.randn(4, 3, 16, 16)).shape == (4, 128, 4, 4)
    assert discriminator(torch.randn(4, 3, 16, 16)).shape == (4, 2)
    assert len(layers(discriminator, GaussianNoise)) == 2


def test_initial_weights():
    pair = nn.ModuleList([DCGenerator(100, 1, (32, 32), (256, 128, 64)), DCDiscriminator(1, (32, 32), (64, 128, 256))])
    for layer in layers(pair, nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
        if layer.weight.numel() > 5000:
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert layer.bias is None or layer.bias.abs().sum() == 0
    gains = torch.cat([layer.weight for layer in layers(pair, nn.BatchNorm2d)])
    assert gains.mean().item() == pytest.approx(1, abs=0.003)
    assert gains.std().item() == pytest.approx(0.02, rel=0.2)
    init_dcgan(pair, 0.1)
    assert pair[0].project.weight.std().item() == pytest.approx(0.1, rel=0.05)


def test_norms_stand_between_the_ends():
    discriminator = DCDiscriminator(1, (32, 32), (4, 8, 16))
    assert [type(layer) for layer in discriminator.convolutions][:6] == [
        nn.Conv2d, nn.Identity, nn.LeakyReLU, nn.Dropout, nn.Conv2d, nn.BatchNorm2d,
    ]  # fmt: skip
    generator = DCGenerator(5, 1, (32, 32), (16, 8, 4))
    assert len(layers(generator, nn.BatchNorm2d)) == 3
    assert [type(layer) for layer in generator.layers][-2:] == [nn.ConvTranspose2d, nn.Tanh]


def test_the_auxiliary_classifier_shares_the_features():
    network = DCDiscriminator(1, (16, 16), (4, 8), classes=3).eval()
    image = torch.randn(5, 1, 16, 16)
    features = network.features(image)
    assert features.shape == (5, 8, 4, 4)
    assert network.classify(features).shape == (5, 3)
    assert torch.equal(network.score(features), network(image))
    with pytest.raises(ValueError, match="classes"):
        DCDiscriminator(1, (16, 16), (4, 8)).classify(features)


def test_noise_and_dropout_rest_at_inference():
    network = DCDiscriminator(1, (16, 16), (4, 8), dropout=0.3, noise=0.5, head_dropout=0.5, std=0.3)
    image = torch.randn(4, 1, 16, 16)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))
    torch.testing.assert_close(network(image)[:1], network(image[:1]))


def test_minibatch_discrimination_lets_samples_see_each_other():
    network = DCDiscriminator(1, (16, 16), (4, 8), norm="none", discrimination=6)
    image = torch.randn(4, 1, 16, 16)
    assert isinstance(network.discrimination, MinibatchDiscrimination)
    assert network.discrimination.project.weight.std().item() == pytest.approx(0.05, rel=0.1)
    assert network(image).shape == (4, 1)
    assert not torch.allclose(network(image)[:1], network(image[:1]), atol=1e-6)
    assert network(image[:1]).isfinite().all()


@pytest.mark.parametrize("norm", ["none", "layer", "instance"])
@pytest.mark.parametrize("size", [(4, 6), (3, 4, 6)])
def test_critics_without_batch_norm_take_gradient_penalties(norm, size):
    network = DCDiscriminator(1, size, (2, 3), kernel=3, norm=norm, std=0.5).double()
    image = torch.randn(2, 1, *size, dtype=torch.float64)
    assert torch.autograd.gradcheck(network, image.clone().requires_grad_(), fast_mode=True)
    assert torch.autograd.gradgradcheck(network, image.clone().requires_grad_(), fast_mode=True)
    gradient_penalty(network, image, torch.randn_like(image), torch.rand(2)).backward()
    assert network.convolutions[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", "none"])
def test_generators_have_exact_gradients(norm):
    network = DCGenerator(2, 1, (7, 6), (3, 2), kernel=4, norm=norm, activation="leaky", std=0.5).double().eval()
    latent = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, latent)


def test_channels_last_changes_nothing():
    generator, discriminator = DCGenerator(4, 2, (20, 18), (8, 4)), DCDiscriminator(2, (20, 18), (4, 8))
    latent = torch.randn(3, 4)
    image = generator(latent)
    score = discriminator(image)
    for network in (generator, discriminator):
        network.to(memory_format=torch.channels_last)
    again = generator(latent)
    torch.testing.assert_close(again, image, atol=1e-5, rtol=1e-4)
    last = discriminator(again.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, score, atol=1e-5, rtol=1e-4)


def test_one_sample_is_a_batch():
    generator, discriminator = DCGenerator(4, 1, (16, 16), (8, 4)), DCDiscriminator(1, (16, 16), (4, 8))
    assert discriminator(generator(torch.randn(1, 4))).isfinite().all()


def test_a_saved_pair_is_the_same_pair():
    first, second = DCGenerator(4, 1, (16, 16), (8, 4)), DCGenerator(4, 1, (16, 16), (8, 4))
    first(torch.randn(8, 4))
    second.load_state_dict(first.state_dict())
    latent = torch.randn(2, 4)
    assert torch.equal(first.eval()(latent), second.eval()(latent))
