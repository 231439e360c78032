"""Statements of the three denoising papers on their networks and losses."""

import pytest
import torch

from ganatomy.methods.denoising import wgan_vgg, wolterink_ldct
from ganatomy.methods.denoising.sagan_ct import SAGAN, lbp_sharpness
from ganatomy.methods.denoising.wgan_vgg import WGANVGG
from ganatomy.methods.denoising.wolterink_ldct import WolterinkLDCT


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def batches(method, stage=-1, generator=None):
    stream = method.stages()[stage].stream
    generator = generator or torch.Generator().manual_seed(0)
    size = stream.patch[3 - method.dims :]
    wide = tuple(n + 2 * m for n, m in zip(size, stream.margin[3 - method.dims :], strict=True))
    while True:
        yield {
            "input": torch.rand(stream.batch_size, 1, *wide, generator=generator),
            "target": torch.rand(stream.batch_size, 1, *size, generator=generator),
        }


def turns(method, stage=-1):
    return list(method.stages()[stage].turns(batches(method, stage)))


def test_wgan_vgg_networks_have_the_published_sizes():
    generator, critic = wgan_vgg.Generator(), wgan_vgg.Critic(64)
    assert count(generator) == 55_872
    assert count(critic) == 17_923_521
    assert generator(torch.rand(1, 1, 80, 80)).shape == (1, 1, 64, 64)
    assert critic(torch.rand(2, 1, 64, 64)).shape == (2, 1)


def test_wgan_vgg_generator_started_at_the_identity_returns_the_image():
    image = torch.rand(1, 1, 30, 30)
    generator = wgan_vgg.Generator(width=6, start="identity")
    assert torch.equal(generator(image), image[..., 8:-8, 8:-8])


@pytest.mark.parametrize(
    ("variant", "terms"),
    [
        ("cnn-mse", ["content"]),
        ("cnn-vgg", ["content"]),
        ("wgan", ["adversarial"]),
        ("wgan-mse", ["adversarial", "content"]),
        ("wgan-vgg", ["adversarial", "content"]),
    ],
)
def test_wgan_vgg_variants(variant, terms):
    method = WGANVGG(WGANVGG.Config.preset("small", variant=variant, critic_steps=3))
    played = turns(method)
    critics = 3 if "wgan" in variant else 0
    assert [turn.player for turn in played] == ["critic"] * critics + ["generator"]
    assert list(played[-1].losses) == terms
    assert ("features" in method.provenance()) == ("vgg" in variant)
    (stage,) = method.stages()
    assert stage.rounds * (critics + 1) == 4 * method.config.game_rounds, "every variant sees as many images"


def test_wgan_vgg_code_preset_differs_where_the_release_does():
    paper, code = WGANVGG.Config.preset("paper"), WGANVGG.Config.preset("code")
    assert (paper.penalty_weight, paper.learning_rate, paper.critic_steps) == (10, 1e-5, 4)
    assert (code.penalty_weight, code.learning_rate, code.content_sum) == (1, 1e-4, True)
    method = WGANVGG(WGANVGG.Config.preset("small", variant="wgan-mse", content_weight=0.1, content_sum=True))
    fake, target = torch.rand(2, 1, 48, 48), torch.rand(2, 1, 48, 48)
    summed = (fake - target).square().sum() / (2 * len(fake))
    assert method.content(fake, target).item() == pytest.approx(0.1 * summed.item(), rel=1e-5)


def test_wgan_vgg_code_sums_over_the_feature_map_of_images_up_to_255():
    found = {}
    for preset in ("paper", "code"):
        method = WGANVGG(WGANVGG.Config.preset(preset, features="substitute"))
        assert method.config.perceptual_range == 57.6 and method.config.content_weight == 0.1
        method.features.__dict__["network"] = torch.nn.AdaptiveAvgPool2d(4)
        fake, target = torch.full((2, 1, 64, 64), 0.25), torch.full((2, 1, 64, 64), 0.5)
        found[preset] = method.content(fake, target).item()
    # A quarter of [0, 1] over the SDs of the channels, squared and averaged over three channels of 4 x 4.
    mean = sum((0.25 / std) ** 2 for std in (0.229, 0.224, 0.225)) / 3
    assert found["paper"] == pytest.approx(0.1 * 57.6**2 * mean, rel=1e-5)
    assert found["code"] == pytest.approx(0.1 * 57.6**2 * mean * 3 * 4 * 4 / 2, rel=1e-5)


def test_wgan_vgg_leaves_values_outside_its_window_alone():
    method = WGANVGG(WGANVGG.Config.preset("small", start="identity"))
    image = 3 * torch.randn(1, 1, 30, 30)
    assert torch.allclose(method.restore(image), image[..., 8:-8, 8:-8], atol=1e-6)


def test_wolterink_networks():
    generator = wolterink_ldct.Generator()
    volume = torch.randn(2, 1, 15, 41, 41)
    restored = generator(volume)
    assert restored.shape == (2, 1, 1, 27, 27)
    assert torch.equal(restored, volume[..., 7:-7, 7:-7, 7:-7]), "training begins at the identity"
    assert wolterink_ldct.Discriminator(27)(restored).shape == (2, 1)
    assert wolterink_ldct.Discriminator(27)(volume[..., :4, 7:-7, 7:-7]).shape == (8, 1)
    assert wolterink_ldct.Discriminator(27, dims=3)(volume[..., :4, 7:-7, 7:-7]).shape == (2, 1)


def test_wolterink_discriminator_goes_27_14_7_4():
    sides = []
    network = wolterink_ldct.Discriminator(27)
    for layer in network.layers:
        if isinstance(layer, torch.nn.Conv2d) and layer.stride == (2, 2):
            layer.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    network(torch.randn(1, 1, 1, 27, 27))
    assert sides == [14, 7, 4]


@pytest.mark.parametrize(
    ("variant", "terms"),
    [("g-voxel", ["voxel"]), ("g-voxel-adv", ["voxel", "adversarial"]), ("g-adv", ["adversarial"])],
)
def test_wolterink_variants(variant, terms):
    method = WolterinkLDCT(WolterinkLDCT.Config.preset("small", variant=variant))
    played = turns(method)
    assert [turn.player for turn in played] == ["discriminator"] * ("adv" in variant) + ["generator"]
    assert list(played[-1].losses) == terms
    if variant == "g-adv":
        assert played[-1].losses["adversarial"].item() > 0.1, "alone, the adversary has weight one"


def sagan(**values):
    return SAGAN(SAGAN.Config.preset("small", **{"patch": 64, "width": 4, "discriminator_width": 4, **values}))


def test_sagan_trains_its_sharpness_network_first_and_then_only_looks_through_it():
    method = sagan()
    first, second = method.stages()
    assert (first.name, first.validated, second.name) == ("sharpness", False, "denoise")
    moving = {id(p) for player in second.players for p in player.parameters()}
    assert not moving & {id(p) for p in method.sharpness_network.parameters()}
    assert [turn.player for turn in turns(method, 1)] == ["discriminator", "generator"]
    assert list(turns(method, 1)[-1].losses) == ["pixel", "adversarial", "sharpness"]


def test_sagan_networks_have_the_published_sizes():
    with torch.device("meta"):
        method = SAGAN(SAGAN.Config())
    # The U-Net of pix2pix has 54,413,955 weights for three channels, four thousand of them in kernels of 16 x 64.
    assert count(method.generator) == 54_413_955 - 2 * 16 * 64 - 2 * (16 * 128 + 1)
    assert count(method.discriminator) == 2_768_705 - 4 * 16 * 64


def test_sagan_baseline_is_the_same_network_alone():
    method = SAGAN(SAGAN.Config.preset("small", **SAGAN.Config.baseline))
    assert [stage.name for stage in method.stages()] == ["denoise"]
    assert [list(turn.losses) for turn in turns(method)] == [["pixel"]]


def test_sharpness_of_a_flat_image_is_none_and_of_texture_some():
    flat = torch.full((1, 1, 40, 40), 0.5)
    # All neighbours equal: no bit is set, code 0.
    assert lbp_sharpness(flat).max() == 0
    texture = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    assert lbp_sharpness(texture).mean() > 0.3


def test_sharpness_counts_isolated_dark_pixels():
    image = torch.ones(1, 1, 9, 9)
    image[..., 4, 4] = 0
    sharp = lbp_sharpness(image, window=1)
    # The dark pixel has eight brighter neighbours in a row: uniform, code 8. Nothing else is darker than anything.
    assert sharp[0, 0, 4, 4] == 1
    assert sharp.sum() == 1
    assert lbp_sharpness(image, window=9)[0, 0, 4, 4].item() == pytest.approx(1 / 81)


def test_sharpness_interpolates_on_the_unit_circle():
    image = torch.zeros(1, 1, 5, 5)
    image[..., 3, 3] = 1
    # Seen from the centre the diagonal neighbour at (√½, √½) has weight ½ on the bright pixel.
    just_below, just_above = (lbp_sharpness(image, threshold=t, window=1)[0, 0, 2, 2] for t in (0.5, 0.49))
    assert (just_below, just_above) == (0, 0), "one set bit is code 1: not sharp"
    around = torch.ones(1, 1, 5, 5)
    around[..., 1:4, 1:4] = 0
    around[..., 2, 2] = 0
    assert lbp_sharpness(around, threshold=0.1, window=1)[0, 0, 2, 2] == 0


def test_sharpness_falls_with_blur():
    method = sagan()
    image = 2 * torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1)) - 1
    taps = torch.exp(-torch.linspace(-3, 3, 7).square() / 2)
    kernel = torch.outer(taps, taps)[None, None] / taps.sum() ** 2
    blurred = torch.nn.functional.conv2d(image, kernel, padding=3)
    assert lbp_sharpness((blurred + 1) / 2, 0.05).mean() < lbp_sharpness((image + 1) / 2, 0.05).mean()
    assert method._spoil(image).shape == image.shape


def test_sagan_learns_its_sharpness_measure():
    method = sagan(sharpness_width=8, sharpness_threshold=0.05)
    stage = method.stages()[0]
    (player,) = stage.players
    optimizer = torch.optim.Adam(player.parameters(), 3e-3)
    stream = batches(method, 0)
    for _ in range(30):
        (turn,) = stage.turns(stream)
        optimizer.zero_grad()
        turn.total.backward()
        optimizer.step()
    half_sharp = 2 * torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1)) - 1
    half_sharp[..., 32:] = torch.nn.functional.avg_pool2d(half_sharp, 7, 1, 3)[..., 32:]
    with torch.no_grad():
        seen = method.sharpness(half_sharp)
    wanted = lbp_sharpness((half_sharp + 1) / 2, 0.05)
    assert torch.corrcoef(torch.stack([seen.flatten(), wanted.flatten()]))[0, 1] > 0.5
