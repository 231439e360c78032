import math
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from ganatomy.losses.adversarial import gradient_penalty
from ganatomy.nets import progressive
from ganatomy.nets.progressive import ProgressiveDiscriminator, ProgressiveGenerator


def count(network, *args, **options):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in network(*args, **options).parameters())


@pytest.fixture
def pair():
    generator = ProgressiveGenerator(6, 1, 32, base=32, maximum=8)
    return generator, ProgressiveDiscriminator(1, 32, base=32, maximum=8)


def test_widths_of_the_paper():
    sides = {4: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}
    for side, width in sides.items():
        assert progressive.stage_channels(progressive.level_of(side) + 1) == width
    assert progressive.stage_channels(9, 64, 16) == 1


def test_parameters_of_the_paper():
    widths = [512, 512, 512, 512, 256, 128, 64, 32, 16]
    steps = list(pairwise(widths))
    first = 16 * 512 * 512 + 512 + 9 * 512 * 512 + 512
    grown = sum(9 * a * b + b + 9 * b * b + b for a, b in steps)
    assert count(ProgressiveGenerator) == first + grown + sum(3 * w + 3 for w in widths)
    grown = sum(9 * b * b + b + 9 * a * b + a for a, b in steps)
    last = 9 * 513 * 512 + 512 + 16 * 512 * 512 + 512 + 513
    assert count(ProgressiveDiscriminator) == grown + last + sum(4 * w for w in widths)


@pytest.mark.parametrize("size", [0, 3, 6, 48, 2048])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=str(size)):
        ProgressiveGenerator(4, 1, size)


@pytest.mark.parametrize("level", [0, 1, 2, 3, None])
@pytest.mark.parametrize("rows", [1, 4, 6])
def test_every_level_plays(pair, level, rows):
    generator, discriminator = pair
    side = 32 if level is None else 4 * 2**level
    image = generator(torch.randn(rows, 6), level, 0.3)
    assert image.shape == (rows, 1, side, side)
    assert discriminator(image, level, 0.3).shape == (rows, 1)


def test_a_fade_leads_from_the_enlarged_old_level_to_the_new(pair):
    generator, discriminator = pair
    latent = torch.randn(4, 6)
    old, new = generator(latent, 1), generator(latent, 2)
    torch.testing.assert_close(generator(latent, 2, 0.0), interpolate(old, scale_factor=2.0))
    torch.testing.assert_close(generator(latent, 2, 0.25), 0.75 * interpolate(old, scale_factor=2.0) + 0.25 * new)
    torch.testing.assert_close(discriminator(new, 2, 0.0), discriminator(avg_pool2d(new, 2), 1))
    near = discriminator(new, 2, 1 - 1e-6)
    torch.testing.assert_close(near, discriminator(new, 2, 1.0), atol=1e-4, rtol=1e-3)


def test_levels_above_take_no_part(pair):
    generator, discriminator = pair
    discriminator(generator(torch.randn(4, 6), 1, 0.5), 1, 0.5).sum().backward()
    for networks, last in ((generator.to_image, 1), (discriminator.from_image, 1), (generator.blocks, 1)):
        for level, network in enumerate(networks):
            gradients = [parameter.grad is not None for parameter in network.parameters()]
            assert all(gradients) if level <= last else not any(gradients)


def test_real_images_fade_too():
    image = torch.randn(2, 1, 8, 8)
    assert progressive.faded(image, 1.0) is image
    half = progressive.faded(image, 0.5)
    torch.testing.assert_close(avg_pool2d(half, 2), avg_pool2d(image, 2))
    blurred = progressive.faded(image, 0.0)
    assert torch.equal(blurred[..., ::2, ::2], blurred[..., 1::2, 1::2])


def test_pixel_norm_makes_unit_root_mean_square():
    features = 7 * torch.randn(2, 5, 3, 3)
    normed = progressive.PixelNorm()(features)
    torch.testing.assert_close(normed.square().mean(1), torch.ones(2, 3, 3))
    assert progressive.PixelNorm()(torch.zeros(1, 5)).abs().sum() == 0


def test_minibatch_stddev_known_answers():
    features = torch.zeros(8, 1, 2, 2)
    features[:4] = torch.tensor([1.0, -1.0, 1.0, -1.0]).reshape(4, 1, 1, 1)
    out = progressive.minibatch_stddev(features)
    assert torch.equal(out[:, :1], features)
    torch.testing.assert_close(out[:4, 1], torch.ones(4, 2, 2))
    torch.testing.assert_close(out[4:, 1], torch.full((4, 2, 2), 1e-4))


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6])
def test_a_batch_that_does_not_divide_is_one_group(rows):
    features = torch.randn(rows, 3, 4, 4)
    plane = progressive.minibatch_stddev(features)[:, 3]
    wanted = (features.var(0, correction=0) + 1e-8).sqrt().mean()
    torch.testing.assert_close(plane, wanted.expand_as(plane))


def test_scales_begin_near_one(pair):
    generator = ProgressiveGenerator(64, 3, 16, base=4096, maximum=64)
    discriminator = ProgressiveDiscriminator(3, 16, base=4096, maximum=64)
    image = generator(torch.randn(16, 64))
    assert 0.3 < image.std() < 3
    assert 0.01 < discriminator(torch.randn(16, 3, 16, 16)).std() < 3


def test_the_first_layer_is_dense_with_the_scaling_of_its_whole_kernel():
    first = ProgressiveGenerator(6, 1, 4, base=16, maximum=8).blocks[0][1].double()
    latent = torch.randn(1, 6, dtype=torch.float64)
    gain = math.sqrt(2) / 4 / math.sqrt(6)
    dense = torch.einsum("ni,oihw->nohw", latent, first.weight.flip(2, 3)) * gain
    torch.testing.assert_close(first(latent[:, :, None, None]), dense)


@pytest.mark.parametrize(("rows", "alpha"), [(1, 1.0), (4, 0.4), (3, 0.4)])
def test_gradients_and_their_gradients(rows, alpha):
    generator = ProgressiveGenerator(2, 1, 8, base=4, maximum=2).double()
    critic = ProgressiveDiscriminator(1, 8, base=4, maximum=2).double()
    latent = torch.randn(rows, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: generator(z, 1, alpha), latent, fast_mode=True)
    image = torch.randn(rows, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: critic(x, 1, alpha), image, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: critic(x, 1, alpha), image, fast_mode=True)
    real = image.detach()
    gradient_penalty(lambda x: critic(x, 1, alpha), real, torch.randn_like(real), torch.rand(rows)).backward()
    assert critic.head.weight.grad.isfinite().all()


def test_channels_last_and_saving(pair):
    generator, discriminator = pair[0].double(), pair[1].double()
    latent = torch.randn(4, 6, dtype=torch.float64)
    image = generator(latent)
    score = discriminator(image)
    twin = ProgressiveGenerator(6, 1, 32, base=32, maximum=8).double()
    twin.load_state_dict(generator.state_dict())
    assert torch.equal(twin(latent), image)
    for network in pair:
        network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(generator(latent), image)
    last = image.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(discriminator(last), score)
