"""Generator and discriminator of Fila-GAN."""

import torch
from torch import nn
from torch.nn import functional

from ganatomy.nets.filaments import FilamentGenerator, WholeImageDiscriminator, init_truncated, shift_only


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_published_numbers_of_parameters_and_maps():
    with torch.device("meta"):
        generator, discriminator = FilamentGenerator(2, 3, (512, 512)), WholeImageDiscriminator(5, (512, 512))
        maps, fed = [], []
        for down in generator.down:
            down.register_forward_hook(lambda module, inputs, output: maps.append(tuple(output.shape[1:3])))
        for up in [*generator.up, generator.last]:
            up.register_forward_hook(lambda module, inputs, output: fed.append(inputs[0].shape[1]))
        assert generator(torch.empty(1, 2, 512, 512), torch.empty(1, 400)).shape == (1, 3, 512, 512)
        assert discriminator(torch.empty(1, 5, 512, 512)).shape == (1, 1)
    assert count(generator) == 26_112_259 and count(generator.noise) == 410_624
    assert count(discriminator) == 2_919_905
    assert maps == [(64, 256), (128, 128), (256, 64), (512, 32), (512, 16), (512, 8)]
    assert fed == [64, 640, 768, 1024, 512, 256, 128]
    kinds = [type(up[0]) for up in [*generator.up, generator.last]]
    assert kinds == [nn.LeakyReLU] * 3 + [nn.ReLU] * 4


def test_norms_shift_without_a_scale_by_the_statistics_of_the_batch():
    norm, image = shift_only(2), torch.randn(3, 2, 4, 5)
    assert [name for name, _ in norm.named_parameters()] == ["bias"] and norm.eps == 1e-3
    nn.init.constant_(norm.bias, 0.5)
    centred = image - image.mean((0, 2, 3), keepdim=True)
    expected = centred / (image.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-3).sqrt() + 0.5
    torch.testing.assert_close(norm(image), expected)
    torch.testing.assert_close(norm.eval()(image)[:1], norm.train()(image[:1]))


def test_the_first_map_and_that_of_the_noise_pass_a_leaky_relu_twice():
    generator = FilamentGenerator(1, 1, (32, 32), 4, 2, 4)
    seen = []
    generator.down[1][1].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    generator.up[0][1].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    nn.init.zeros_(generator.down[0][0].weight)
    nn.init.constant_(generator.down[0][0].bias, -1.0)
    nn.init.zeros_(generator.noise.weight)
    nn.init.constant_(generator.noise.bias, -1.0)
    generator(torch.zeros(1, 1, 32, 32), torch.zeros(1, 4))
    assert all(torch.allclose(one, torch.tensor(-0.04)) for one in seen)


def test_the_map_enters_by_the_skips_and_the_noise_by_the_bottleneck():
    generator = FilamentGenerator(2, 3, (32, 64), 4, 2, 4).eval()
    draw = torch.Generator().manual_seed(0)
    image, latent = torch.rand(2, 2, 32, 64, generator=draw), torch.randn(2, 4, generator=draw)
    bottom = []
    generator.up[0].register_forward_hook(lambda module, inputs, output: bottom.append(inputs[0]))
    made = generator(image, latent)
    assert made.shape == (2, 3, 32, 64) and bottom[0].shape == (2, 2, 1, 2)
    assert not torch.equal(generator(1 - image, latent), made) and torch.equal(bottom[1], bottom[0])
    assert not torch.equal(generator(image, -latent), made)


def test_images_of_another_size_are_drawn_with_an_enlarged_map_of_the_noise():
    generator = FilamentGenerator(1, 3, (32, 32), 4, 2, 4).eval()
    assert generator(torch.rand(1, 1, 64, 96), torch.randn(1, 4)).shape == (1, 3, 64, 96)


def restated(generator, image, latent):
    """The release's generator, written again from its description."""

    def norm(layer, values):
        mean, variance = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), unbiased=False, keepdim=True)
        return (values - mean) / (variance + 1e-3).sqrt() + layer.bias.view(1, -1, 1, 1)

    def leaky(values):
        return functional.leaky_relu(values, 0.2)

    first = generator.down[0][0]
    maps = [leaky(functional.conv2d(image, first.weight, first.bias, 2, 1))]
    for level in list(generator.down)[1:]:
        maps.append(norm(level[2], functional.conv2d(leaky(maps[-1]), level[1].weight, None, 2, 1)))
    flat = leaky(latent @ generator.noise.weight.T + generator.noise.bias)
    made = flat.reshape(len(latent), *generator.base, -1).movedim(-1, 1)
    for step, level in enumerate(generator.up):
        before = leaky(made) if step < len(generator.up) // 2 else made.relu()
        made = norm(level[2], functional.conv_transpose2d(before, level[1].weight, None, 2, 1))
        made = torch.cat([made, maps[-1 - step]], 1)
    return functional.conv_transpose2d(made.relu(), generator.last[1].weight, generator.last[1].bias, 2, 1)


def test_the_generator_equals_what_the_release_describes():
    generator = FilamentGenerator(2, 3, (128, 256), 5, 2, 6)
    image, latent = torch.randn(2, 2, 128, 256), torch.randn(2, 5)
    torch.testing.assert_close(generator(image, latent), restated(generator, image, latent))


def test_weights_are_drawn_from_a_normal_distribution_that_is_cut():
    network = WholeImageDiscriminator(5, (64, 64), 16, 4)
    torch.manual_seed(0)
    init_truncated(network, 0.02)
    weights = torch.cat([one.weight.flatten() for one in network if isinstance(one, nn.Conv2d | nn.Linear)])
    assert weights.abs().max() <= 0.04 and abs(weights.std().item() - 0.0176) < 5e-4
    assert not any(parameter.any() for name, parameter in network.named_parameters() if "bias" in name)
