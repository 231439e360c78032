import pytest
import torch
from torch import nn

from ganatomy.losses.segmentation import multi_scale_l1
from ganatomy.nets import segan


def count(build):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (lambda: segan.PaperSegmentor(3, 1), 4_307_136),
        (lambda: segan.PaperSegmentor(3, 3), 4_308_288),
        (lambda: segan.PaperSegmentor(4, 1), 4_308_160),
        (lambda: segan.PaperCritic(3), 659_200),
        (lambda: segan.PaperCritic(4), 660_224),
        (segan.IsicSegmentor, 156_235_264),
        (segan.IsicCritic, 9_393_088),
        (segan.BratsSegmentor, 170_129_216),
        (segan.BratsCritic, 16_871_680),
    ],
)
def test_parameters(build, parameters):
    assert count(build) == parameters


@pytest.mark.parametrize(
    ("build", "channels", "size", "sides", "elements"),
    [
        (segan.PaperCritic, 3, 160, [160, 80, 40, 20], 793_600),
        (segan.IsicCritic, 3, 128, [128, 64, 32, 16, 8, 4, 2], 550_912),
        (segan.BratsCritic, 20, 192, [192, 95, 47, 23, 11, 6, 3], 1_818_048),
    ],
)
def test_critics_return_the_masked_image_and_every_stage(build, channels, size, sides, elements):
    with torch.device("meta"):
        masked = torch.empty(2, channels, size, size)
        maps = build(channels)(masked)
    assert maps[0] is masked
    assert [stage.shape[2:] for stage in maps] == [(side, side) for side in sides]
    assert sum(stage[0].numel() for stage in maps) == elements
    if build is segan.PaperCritic:
        assert [stage[0].numel() for stage in maps] == [76_800, 409_600, 204_800, 102_400]


def sizes_of(modules, run):
    sizes = []
    hooks = [module.register_forward_hook(lambda _m, _i, output: sizes.append(output.shape[2:])) for module in modules]
    run()
    for hook in hooks:
        hook.remove()
    return [tuple(size) for size in sizes]


def test_sizes_inside_the_segmentors():
    with torch.device("meta"):
        paper, isic, brats = segan.PaperSegmentor(3, 2), segan.IsicSegmentor(), segan.BratsSegmentor()
        assert sizes_of(paper.encoder, lambda: paper(torch.empty(1, 3, 160, 160))) == [(n, n) for n in (80, 40, 20, 10)]
        stages = (64, 32, 16, 8, 4, 2, 1)
        assert sizes_of(isic.encoder, lambda: isic(torch.empty(2, 3, 128, 128))) == [(n, n) for n in stages]
        ups = sizes_of(isic.decoder, lambda: isic(torch.empty(2, 3, 128, 128)))
        assert ups == [(n, n) for n in (2, 4, 8, 16, 32, 64, 128)]
        assert sizes_of(brats.encoder, lambda: brats(torch.empty(1, 4, 192, 160))) == [
            *((96, 80), (48, 40), (24, 20), (12, 10), (6, 5))
        ]
        assert brats(torch.empty(1, 4, 192, 160)).shape == (1, 5, 192, 160)
        assert isic(torch.empty(2, 3, 128, 64)).shape == (2, 1, 128, 64)


@pytest.mark.parametrize(
    ("network", "inputs", "smallest"),
    [
        (segan.PaperSegmentor(2, 3, width=2), 2, (16, 19)),
        (segan.IsicSegmentor(2, 3, width=2), 2, (33, 38)),
        (segan.BratsSegmentor(2, 3, width=2), 2, (33, 38)),
    ],
    ids=["paper", "isic", "brats"],
)
def test_any_size_from_the_smallest_on_comes_back(network, inputs, smallest):
    network.eval()
    for rows, columns in (smallest, (53, 71)):
        assert network(torch.randn(1, inputs, rows, columns)).shape == (1, 3, rows, columns)


def positive(network):
    """Set all weights to 0.1, so that every unit passes gradients and the receptive field can be measured."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    return network.eval()


def field(outputs, image):
    centre = outputs[0, 0, outputs.shape[2] // 2, outputs.shape[3] // 2]
    (gradient,) = torch.autograd.grad(centre, image, retain_graph=True)
    seen = gradient[0].abs().sum(0)
    return int(seen.any(1).sum()), int(seen.any(0).sum())


def test_receptive_fields_of_the_stages():
    image = torch.ones(1, 1, 96, 128, requires_grad=True)
    _, *stages = positive(segan.PaperCritic(1, width=2))(image)
    assert [field(stage, image) for stage in stages] == [(4, 4), (10, 10), (22, 22)]
    encoder = positive(segan.PaperSegmentor(1, 1, width=2)).encoder
    assert field(nn.Sequential(*encoder)(image), image) == (46, 46)


def layers(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


def test_paper_networks_normalise_all_but_the_first_and_the_last_layer():
    segmentor, critic = segan.PaperSegmentor(3, 2, width=4), segan.PaperCritic(3, width=4)
    assert [norm.num_features for norm in layers(segmentor, nn.BatchNorm2d)] == [8, 16, 32, 16, 8, 4]
    assert [norm.num_features for norm in layers(critic, nn.BatchNorm2d)] == [8, 16]
    for network in (segmentor, critic):
        assert all(convolution.bias is None for convolution in layers(network, nn.Conv2d))


def test_paper_skips_are_added_after_the_activation():
    segmentor = segan.PaperSegmentor(1, 1, width=2).eval()
    for norm in layers(segmentor.decoder, nn.BatchNorm2d):
        nn.init.constant_(norm.weight, 0.0)
        nn.init.constant_(norm.bias, -1.0)
    image = torch.randn(1, 1, 32, 48)
    wanted = segmentor.encoder[0](image)
    upsampled = nn.functional.interpolate(wanted, scale_factor=2, mode="bilinear", align_corners=True)
    # Stages that give nothing leave the map of the first encoder stage alone on the way to the head.
    torch.testing.assert_close(segmentor(image), segmentor.head(upsampled))


def test_upsampling_keeps_the_corners():
    segmentor = segan.PaperSegmentor(1, 1, width=1).eval()
    captured = []
    segmentor.head.register_forward_hook(lambda _m, inputs, _o: captured.append(inputs[0]))
    segmentor.decoder[-1].register_forward_hook(lambda _m, _i, output: captured.append(output))
    image = torch.randn(1, 1, 32, 48)
    segmentor(image)
    before, after = captured[0] + segmentor.encoder[0](image), captured[1]
    torch.testing.assert_close(after[0, 0, ::31, ::47], before[0, 0, ::15, ::23])


@pytest.mark.parametrize(
    ("network", "biased"),
    [(segan.IsicSegmentor(width=2), True), (segan.BratsSegmentor(width=2), False), (segan.BratsCritic(width=2), False)],
)
def test_only_the_global_convolutions_of_isic_have_biases(network, biased):
    within = {id(convolution) for block in layers(network, segan.GlobalConvolution) for convolution in block.modules()}
    assert within
    for convolution in layers(network, nn.Conv2d | nn.ConvTranspose2d):
        assert (convolution.bias is not None) == (biased and id(convolution) in within)


def test_global_convolution_sums_two_paths_of_thin_kernels():
    block = segan.GlobalConvolution(1, 1, 5, bias=False)
    for convolution in layers(block, nn.Conv2d):
        nn.init.ones_(convolution.weight)
    impulse = torch.zeros(1, 1, 11, 13)
    impulse[..., 4, 6] = 1.0
    wanted = torch.zeros(1, 1, 11, 13)
    wanted[..., 2:7, 4:9] = 2.0
    assert torch.equal(block(impulse), wanted)
    assert [c.kernel_size for c in layers(block, nn.Conv2d)] == [(5, 1), (1, 5), (1, 5), (5, 1)]


def test_released_levels_join_before_they_are_enlarged():
    network = segan.IsicSegmentor(width=1).eval()
    arrived = []
    network.decoder[-1].register_forward_pre_hook(lambda _m, inputs: arrived.append(inputs[0]))
    network.decoder[-2].register_forward_hook(lambda _m, _i, output: arrived.append(output))
    image = torch.randn(1, 3, 64, 96)
    network(image)
    joined = torch.cat([network.encoder[0](image), arrived[0]], dim=1)
    wanted = nn.functional.interpolate(joined, size=(64, 96), mode="bilinear", align_corners=True)
    torch.testing.assert_close(arrived[1], wanted)


def test_initial_weights_spread_by_fan_out():
    torch.manual_seed(0)
    network = segan.IsicSegmentor(width=16)
    for convolution in layers(network, nn.Conv2d | nn.ConvTranspose2d):
        area = convolution.kernel_size[0] * convolution.kernel_size[1]
        if convolution.weight.numel() > 20_000:
            wanted = (2 / (area * convolution.out_channels)) ** 0.5
            assert convolution.weight.std().item() == pytest.approx(wanted, rel=0.05)
        assert convolution.bias is None or not convolution.bias.any()
    gains = torch.cat([norm.weight for norm in layers(network, nn.BatchNorm2d)])
    assert (gains.mean().item(), gains.std().item()) == (pytest.approx(1, abs=0.002), pytest.approx(0.02, rel=0.1))
    assert not any(norm.bias.any() for norm in layers(network, nn.BatchNorm2d))


@pytest.mark.parametrize(
    "network", [segan.PaperCritic(2, width=2), segan.IsicCritic(2, width=2), segan.BratsCritic(2, width=2)]
)
def test_every_layer_of_a_critic_is_used(network):
    maps = network(torch.randn(2, 2, 96, 128))
    sum(stage.square().sum() for stage in maps[1:]).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("network", [segan.IsicSegmentor(2, 3, width=2), segan.BratsSegmentor(2, 3, width=2)])
def test_every_layer_of_a_released_segmentor_is_used(network):
    network(torch.randn(4, 2, 96, 128)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters() if parameter.dim() == 4)


def test_multipliers_weigh_the_stages_as_in_the_release():
    with torch.device("meta"):
        critic = segan.IsicCritic()
        sizes = [stage.shape[1:] for stage in critic(torch.empty(2, 3, 128, 128))]
    shares = []
    for differing in range(len(sizes)):
        maps = [torch.zeros(1, *size) for size in sizes]
        ones = [maps[index] + float(index == differing) for index in range(len(sizes))]
        shares.append(multi_scale_l1(maps, ones, "concat_mean", critic.multipliers).item())
    assert shares == pytest.approx([0.0892, 0.4758, 0.4758, 0.2379, 0.1190, 0.0297, 0.0149], abs=5e-5)


def test_masked_images_pair_every_channel_with_every_map():
    image, maps = torch.randn(2, 4, 5, 7), torch.rand(2, 5, 5, 7)
    masked = segan.masked_images(image, maps)
    assert masked.shape == (2, 20, 5, 7)
    for channel in range(4):
        for region in range(5):
            assert torch.equal(masked[:, 5 * channel + region], image[:, channel] * maps[:, region])
    assert torch.equal(segan.masked_images(image, maps[:, :1]), image * maps[:, :1])


def test_what_is_not_annotated_does_not_reach_the_critic():
    image = torch.rand(2, 3, 32, 48) + 0.5
    target = torch.randint(-1, 2, (2, 2, 32, 48)).float()
    known = target >= 0
    probabilities = torch.rand(2, 2, 32, 48, requires_grad=True)
    critic = segan.PaperCritic(6, width=2)
    found, true = (critic(segan.masked_images(image, maps, known)) for maps in (probabilities, target))
    (gradient,) = torch.autograd.grad(multi_scale_l1(found, true), probabilities)
    assert torch.equal(gradient != 0, known)


def test_the_masks_themselves_give_no_difference():
    critic = segan.PaperCritic(3, width=2)
    masked = segan.masked_images(torch.randn(2, 3, 32, 48), torch.randint(0, 2, (2, 1, 32, 48)).float())
    for mode in ("per_stage_mean", "concat_mean"):
        assert multi_scale_l1(critic(masked), critic(masked.clone()), mode).item() == 0


def test_gumbel_softmax():
    logits = (torch.arange(5.0) / 10).reshape(1, 5, 1, 1)
    half = torch.full_like(logits, 0.5)
    wanted = torch.tensor([0.1141, 0.1464, 0.1880, 0.2414, 0.3100])
    torch.testing.assert_close(segan.gumbel_softmax(logits, half, 0.4).flatten(), wanted, atol=5e-5, rtol=0)
    two = segan.gumbel_softmax(torch.zeros(1, 2), torch.tensor([[0.5, 1 / torch.e]]), 1.0)
    # The noise of a draw of 1/e is 0, that of 0.5 is 0.366513.
    assert (two[0, 0] / two[0, 1]).log().item() == pytest.approx(0.366513, abs=1e-6)


def test_gumbel_softmax_draws_classes_by_their_probability():
    logits = torch.tensor([0.0, 1.0, -0.5]).expand(200_000, 3)
    maps = segan.gumbel_softmax(logits, torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)), 0.5)
    shares = torch.bincount(maps.argmax(1), minlength=3) / len(maps)
    torch.testing.assert_close(shares, logits[0].softmax(0), atol=5e-3, rtol=0)


def test_gumbel_softmax_survives_draws_of_zero():
    uniform = torch.tensor([[0.0, 0.0, 1 - 2**-24]])
    maps = segan.gumbel_softmax(torch.zeros(1, 3), uniform, 0.4)
    assert torch.isfinite(maps).all()
    assert maps[0, 2].item() == pytest.approx(1)
