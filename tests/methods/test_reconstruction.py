import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ganatomy.errors import UserError
from ganatomy.game import Progress, moves
from ganatomy.images.image import Image
from ganatomy.methods.reconstruction.csmri_refinement import CSMRIRefinement, FeatureDiscriminator, RecNet, Refiner
from ganatomy.methods.reconstruction.dagan import DAGAN, relative_error, spectral_error
from ganatomy.methods.reconstruction.deep_dealiasing import DeepDealiasing
from ganatomy.methods.reconstruction.gancs import GANCS, MagnitudeDiscriminator, ResidualReconstructor
from ganatomy.methods.reconstruction.kspace_gan import CentreDiscriminator, KSpaceGAN
from ganatomy.methods.reconstruction.refinegan import RefineCritic, RefineGAN, RefineGenerator
from ganatomy.nets.dealiasing import DealiasingDiscriminator, DealiasingUNet
from ganatomy.physics.coils import Encoding
from ganatomy.physics.consistency import consistency_residual
from ganatomy.physics.fourier import as_complex, fft, ifft
from ganatomy.physics.sampling import Undersampling, undersample, zero_filled
from ganatomy.tasks.mr_reconstruction.scan import Scan

KINDS = (DeepDealiasing, DAGAN, GANCS, RefineGAN, CSMRIRefinement, KSpaceGAN)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def small(kind, **values):
    torch.manual_seed(0)
    return kind(kind.Config.preset("small", **{"size": (32, 32), "batch_size": 2, **values}))


def scan(method, count=2, size=32):
    """Return true images and their simulated scans."""
    true = torch.zeros(count, 1, size, size)
    true[..., size // 4 : -size // 4, size // 8 : -size // 8] = torch.linspace(0.4, 0.9, count).view(-1, 1, 1, 1)
    mask = method.task.scan.mask((size, size)).expand(count, 1, -1, -1)
    return true, Scan(zero_filled(undersample(true, mask)), Encoding(mask)).packed


def batches(method):
    true, input = scan(method)
    while True:
        yield {"input": input, "target": true} | ({"phase": 0 * true} if "phase" in method.task.roles else {})


def prepared(task, values):
    """Return a prepared case of magnitude images as a batch of its slices."""
    sample = task.simulate(task.frame({"target": Image.from_array(values)}), 0)
    return {name: torch.from_numpy(np.array(array)).transpose(0, 1) for name, array in sample.arrays.items()}


def played(method):
    """Return the turns of one round of the last stage, by player."""
    return {turn.player: turn for move in moves(method.stages()[-1].turns(batches(method))) for turn in move}


def test_dealiasing_networks_have_the_published_size():
    with torch.device("meta"):
        assert parameters(DealiasingUNet()) == 98_587_393
        critic = DealiasingDiscriminator((256, 256))
        assert parameters(critic) == 48_141_633
        assert [layer.out_channels for layer in critic if isinstance(layer, nn.Conv2d)] == [
            *(64, 128, 256, 512, 1024, 2048),
            *(1024, 512),
        ]


def test_a_generator_of_refinegan_has_the_published_size_and_its_critic_a_small_map():
    with torch.device("meta"):
        assert parameters(RefineGenerator()) == 14_979_394
    assert RefineCritic(2)(torch.zeros(1, 2, 256, 256)).shape == (1, 1, 8, 8)


def test_gancs_has_eight_blocks_without_pooling_and_a_pooled_score():
    with torch.device("meta"):
        network = ResidualReconstructor(128, 4, 2)
        assert network(torch.empty(1, 2, 20, 12)).shape == (1, 2, 20, 12)
        convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        assert len(convolutions) == 2 * 8 + 1
        assert sum(isinstance(m, nn.ConvTranspose2d) for m in network.modules()) == 4
        critic = MagnitudeDiscriminator(8)
        assert critic(torch.empty(3, 1, 40, 24)).shape == (3, 1)
    # Twenty norms without gain, and 21 square 3x3 convolutions; two between 2 and 128 channels and one 1x1 besides.
    assert parameters(network) == 20 * 128 + 21 * (9 * 128 + 1) * 128 + (2 + 1) * 128 + (128 + 1) * 2 + 129 * 128
    assert parameters(critic) == 65_785


def test_gancs_draws_its_weights_as_its_code():
    torch.manual_seed(0)
    network, critic = ResidualReconstructor(128, 1, 1), MagnitudeDiscriminator(8)
    cut = 0.8796  # SD of a normal distribution that is cut at two SDs
    inner = [layer for layer in network[1].branch if isinstance(layer, nn.Conv2d)]
    assert [layer.weight.std().item() for layer in inner] == pytest.approx([cut * 9.317e-4] * 2, rel=0.02)
    outer = [layer.weight.std().item() for layer in network if hasattr(layer, "kernel_size")]
    assert outer == pytest.approx([cut * std for std in (0.25, 0.02946, 0.04167, 0.125, 0.25)], rel=0.15)
    scored = [layer.weight.std().item() for layer in critic.patches if isinstance(layer, nn.Conv2d)]
    assert scored[:4] == pytest.approx([cut * std for std in (0.280, 0.140, 0.0991, 0.0701)], rel=0.2)


def test_slices_of_gancs_are_normalised_alone_when_it_is_applied():
    method = small(GANCS).inference_mode()
    _, input = scan(method)
    torch.testing.assert_close(method.restore(input)[1:], method.restore(input[1:]))
    method.generator[-1].weight.data.mul_(100)
    before = method.restore(input)
    for layer in method.generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.fill_(9.0)
    torch.testing.assert_close(method.restore(input), before)


def test_the_losses_of_dagan_are_those_of_its_code():
    true, output = np.random.default_rng(0).random((2, 3, 1, 8, 6))
    found = relative_error(torch.tensor(output), torch.tensor(true))
    norms = [np.sqrt(np.square(image).sum((1, 2, 3))) for image in (output - true, true)]
    assert found == pytest.approx(np.mean(norms[0] / norms[1]))
    spectra = [np.abs(np.fft.fft2(image)) for image in (output, true)]
    want = np.square(spectra[0] - spectra[1]).mean()
    assert spectral_error(torch.tensor(output), torch.tensor(true)) == pytest.approx(want, rel=1e-5)


def test_deep_dealiasing_is_dagan_without_frequencies():
    assert set(played(small(DAGAN))["generator"].losses) == {"pixel", "frequency", "perceptual", "adversarial"}
    assert set(played(small(DeepDealiasing))["generator"].losses) == {"pixel", "perceptual", "adversarial"}
    ours, theirs = (kind.Config().model_dump() for kind in (DeepDealiasing, DAGAN))
    assert {name for name in ours if ours[name] != theirs[name]} == {"frequency_weight"}


def test_a_refining_network_that_says_nothing_leaves_the_magnitude():
    for refine in (True, False):
        method = small(DAGAN, refine=refine).inference_mode()
        nn.init.zeros_(method.generator.head.weight)
        nn.init.zeros_(method.generator.head.bias)
        _, input = scan(method)
        want = Scan.of(input).image.abs().clamp_max(1) if refine else torch.full_like(input[:, :1], 0.5)
        torch.testing.assert_close(method.restore(input), want, atol=1e-5, rtol=0)


def test_augmented_images_are_scanned_again():
    method = small(DAGAN)
    batch = next(batches(method))
    true, input = method.scanned(batch)
    assert (true - batch["target"]).abs().mean() > 0.02 and true.min() >= 0 and true.max() <= 1
    torch.testing.assert_close(input, scanned_by_hand(true, batch["input"]), atol=1e-5, rtol=0)
    kept, same = small(DAGAN, augmented=False).scanned(batch)
    assert torch.equal(kept, batch["target"]) and torch.equal(same, batch["input"])


def scanned_by_hand(true, input):
    encoding = Scan.of(input).encoding
    return Scan(zero_filled(undersample(true, encoding.mask)), encoding).packed


def test_images_are_bent_by_a_few_percent_of_their_size_whatever_that_is():
    method = small(DAGAN)
    spreads = [method._bend(torch.zeros(64, 1, size, size)).std().item() for size in (32, 64)]
    assert spreads == pytest.approx([0.038, 0.038], rel=0.1)


@pytest.mark.parametrize("kind", [GANCS, RefineGAN])
def test_the_measured_samples_are_kept(kind):
    method = small(kind).inference_mode()
    _, input = scan(method)
    shown = Scan.of(input)
    image, mask = shown.image, shown.mask
    complex_ = []
    if kind is GANCS:
        method.generator.register_forward_hook(lambda module, given, made: complex_.append(made))
    else:
        complex_ += method.refined(input)[1]
    restored = method.restore(input)
    if kind is RefineGAN:
        torch.testing.assert_close((fft(complex_[-1]) - fft(image)) * mask, 0 * image, atol=1e-5, rtol=0)
        torch.testing.assert_close(restored, complex_[-1].abs())
    else:
        made = fft(torch.complex(*complex_[0].unsqueeze(2).unbind(1)))
        want = torch.fft.ifft2(torch.fft.ifftshift(torch.where(mask, fft(image), made), (2, 3)), norm="ortho")
        torch.testing.assert_close(restored, torch.fft.fftshift(want, (2, 3)).abs(), atol=1e-5, rtol=0)


def test_the_game_of_gancs_sets_in_slowly():
    method = small(GANCS, adversarial_weight=0.25)
    warm_up, game = method.stages()
    assert warm_up.rounds == 1600 and not warm_up.validated and game.validated
    found = {}
    for at in (0, 9, 10, 100, 10**8):
        method.progress = Progress(stage_round=at, stage_rounds=10**9)
        losses = played(method)["generator"].losses
        found[at] = "adversarial" in losses
    assert found == {0: False, 9: False, 10: False, 100: True, 10**8: True}
    fake = method.restore(scan(method)[1])
    true = scan(method)[0]
    assert losses["pixel"].item() == pytest.approx(0.75 * (fake - true).abs().mean().item(), rel=1e-3)


def test_refinegan_repeats_its_cycles_in_image_and_kspace():
    method = small(RefineGAN, augmented=False)
    assert set(played(method)["generators"].losses) == {
        *("image", "direct", "k-space", "smoothness", "shrinkage", "adversarial")
    }
    true, input = scan(method)
    true = torch.complex(true, 0 * true)
    wrong = true + 0.1
    losses = method.cycles([true, true], [wrong, wrong], true, input)
    rate = 0.5 / method.task.scan.mask((32, 32)).float().mean().item()
    # A tenth of the real part is a fifth of [-1, 1], half of it over both channels; two stages of two samples.
    assert losses["image"].item() == pytest.approx(10 * rate * 0.1 * 2 * 2, rel=1e-4)
    assert losses["direct"].item() == 0
    losses = method.cycles([wrong, wrong], [true, true], true, input)
    # The error lies at the zero frequency, where an FFT that is not normalised has 1024 times 0.2.
    assert losses["k-space"].item() == pytest.approx(rate**2 * 0.2 * 1024 / 2048 * 2 * 2, rel=1e-3)
    assert losses["direct"].item() == pytest.approx(1000 * rate * 0.1 * 2 * 2, rel=1e-4)


def test_samples_of_refinegan_are_normalised_alone_and_seen_from_minus_one_to_one():
    method, seen = small(RefineGAN, augmented=False), []
    networks = [method.generators[0], method.critic]
    for network in networks:
        network.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    true, input = scan(method)
    draws = iter([{"input": input, "target": one, "phase": 0 * one} for one in (true, 1 - true)])
    list(moves(method.turns(draws)))
    assert {len(image) for image in seen} == {2} and len(seen) == 2 + 2 + 4 + 4
    real = torch.complex(true, 0 * true)
    torch.testing.assert_close(seen[2], 2 * torch.cat([real.real, real.imag], dim=1) - 1)


def test_gains_of_refinegan_begin_between_0_and_1():
    method = small(RefineGAN, width=16)
    gains = torch.cat([m.weight.detach() for m in method.modules() if isinstance(m, nn.BatchNorm2d)])
    assert 0 <= gains.min() < 0.02 < 0.98 < gains.max() <= 1
    assert gains.mean().item() == pytest.approx(0.5, abs=0.03)


def test_the_critic_of_refinegan_is_clipped_and_judges_all_pairs():
    method = small(RefineGAN)
    round_ = method.turns(batches(method))
    turn = next(round_)
    scores = turn.scores
    want = 8 * (scores["fake"].mean() - scores["real"].mean())
    assert turn.losses["adversarial"].item() == pytest.approx(want.item(), abs=1e-6)
    assert len(scores["real"]) == 4 and len(scores["fake"]) == 8, "two samples of two, two stages"
    next(round_)
    assert max(parameter.abs().max().item() for parameter in method.critic.parameters()) <= 0.01 + 1e-9


def test_the_learning_rate_of_refinegan_is_linear_between_its_points():
    method = RefineGAN(RefineGAN.Config(width=2, critic_width=2))
    rate = method.stages()[0].players[0].schedule
    found = [1e-4 * rate(SimpleNamespace(fraction=at)) for at in (0, 0.1, 0.2, 0.4, 0.6, 0.8, 1)]
    assert found == pytest.approx([1e-4, 2e-4, 3e-4, 2e-5, 1e-5, 2e-6, 1e-6])


@pytest.mark.parametrize("kind", [DAGAN, GANCS])
def test_the_learning_rate_is_halved_again_and_again(kind):
    rate = small(kind, halvings=3).stages()[-1].players[-1].schedule
    found = [rate(SimpleNamespace(fraction=at)) for at in (0, 0.24, 0.26, 0.5, 0.99)]
    assert found == [1, 1, 0.5, 0.25, 0.125]


@pytest.mark.parametrize("kind", KINDS)
def test_every_system_learns_one_scan_by_heart(kind):
    plain = {"augmented": False, "perceptual_weight": 0.0}
    given = {name: value for name, value in plain.items() if name in kind.Config.model_fields}
    method = small(kind, **kind.Config.baseline, **given)
    true, input = scan(method)
    (player,) = method.stages()[-1].players
    optimizer = torch.optim.Adam(player.parameters(), 2e-3)
    before = (Scan.of(input).image.abs() - true).square().mean().item()
    for _ in range(40):
        for move in moves(method.stages()[-1].turns(batches(method))):
            optimizer.zero_grad()
            move[0].total.backward()
            optimizer.step()
    after = (method.restore(input) - true).square().mean().item()
    assert after < 0.5 * before


@pytest.mark.parametrize("kind", KINDS)
def test_every_system_learns_from_several_coils_and_takes_any_number_of_them(kind):
    method = small(kind, coils=4)
    asked = method.task
    values = 100 * scan(method, 2)[0].transpose(0, 1).numpy()
    batch = prepared(asked, values)
    assert batch["input"].shape[1] == 11
    for stage in method.stages():
        for move in moves(stage.turns(itertools.repeat(batch))):
            for turn in move:
                assert turn.total.isfinite()
    method.inference_mode()
    fewer = torch.cat([batch["input"][:, :3], batch["input"][:, 3:7]], dim=1)
    assert method.restore(batch["input"]).shape == method.restore(fewer).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("kind", [GANCS, RefineGAN])
def test_what_several_coils_measured_is_kept(kind):
    method = small(kind, coils=4, sensitivities="known").inference_mode()
    values = scan(method, 2)[0].transpose(0, 1).numpy()
    shown = Scan.of(prepared(method.task, values)["input"])
    start = torch.randn(2, 1, 32, 32, dtype=torch.complex64)
    before, after = (
        consistency_residual(image, shown.image, shown.encoding).mean() for image in (start, shown.keep(start))
    )
    assert after < 0.1 * before


def columns(config):
    """Return which columns a scan measures."""
    mask = config.scan.mask(config.size)
    assert mask.all(0).tolist() == mask.any(0).tolist(), "whole columns"
    return mask[0]


def test_recnet_has_the_published_size_and_an_eighth_of_the_lines():
    with torch.device("meta"):
        assert parameters(RecNet()) == 31_302
    config = CSMRIRefinement.Config()
    lines = columns(config)
    assert len(lines) == 512 and lines.sum() == 64 and lines[252:260].all()
    masks = [config.scan.mask(config.size, draw) for draw in (1, 2, 1)]
    assert torch.equal(masks[0], masks[2]) and not torch.equal(masks[0], masks[1])


def test_the_refining_networks_are_those_of_the_code():
    with torch.device("meta"):
        critic = FeatureDiscriminator()
        maps = critic(torch.empty(1, 1, 512, 512))
        assert [tuple(found.shape[1:]) for found in maps] == [
            *((64, 256, 256), (128, 128, 128), (256, 64, 64), (512, 32, 32), (1024, 16, 16), (1024, 16, 16)),
            (1, 13, 13),
        ]
        first_layers = [layer[0] for layer in (*critic.hidden, critic.head)]
        assert [isinstance(layer, nn.Dropout2d) for layer in first_layers] == [False] * 4 + [True] * 3
        network = Refiner().unet
        assert [layer[0].out_channels for layer in network.down] == [32, 64, 128]
        assert [layer[0].out_channels for layer in network.up] == [64, 32]
    gains = [module.weight.flatten(1) for module in Refiner((4, 6)).modules() if isinstance(module, nn.Conv2d)]
    for weight in gains:
        torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(len(weight)), atol=1e-5, rtol=0)


def test_a_closed_gate_leaves_the_reconstruction_and_an_open_one_ignores_the_measurement():
    method = small(CSMRIRefinement).inference_mode()
    input = scan(method)[1]
    kept, plain = Scan.of(input), method.recnet(input)
    torch.testing.assert_close(method.restore(input), plain.abs().clamp_max(1))
    assert consistency_residual(plain, kept.image, kept.encoding).max() < 1e-5
    nn.init.constant_(method.refiner.gate, 0.1)
    refined, _ = method.refiner(plain)
    assert consistency_residual(refined, kept.image, kept.encoding).min() > 1e-3


def test_the_correction_counts_in_halves_of_the_range_of_the_real_part():
    refiner = Refiner((4, 6)).eval()
    nn.init.zeros_(refiner.unet.head.weight)
    nn.init.ones_(refiner.unet.head.bias)
    nn.init.constant_(refiner.gate, 0.5)
    image = torch.complex(torch.linspace(-1, 3, 64).view(1, 1, 8, 8), torch.rand(1, 1, 8, 8))
    refined, correction = refiner(torch.cat([image, 10 * image]))
    assert torch.equal(correction, torch.ones(2, 1, 8, 8))
    torch.testing.assert_close(refined, torch.cat([image + 1, 10 * image + 10]))


def test_refinement_has_the_losses_of_the_code():
    method = small(CSMRIRefinement, dropout=0.0)
    first, second = method.stages()
    assert (first.name, second.name) == ("reconstruction", "refinement")
    assert not first.validated and second.validated
    turns = played(method)
    assert list(turns) == ["discriminator", "refiner"]
    real, fake = turns["discriminator"].scores["real"], turns["discriminator"].scores["fake"]
    cross = nn.functional.binary_cross_entropy_with_logits
    want = cross(real, torch.full_like(real, 0.9)) + cross(fake, torch.zeros_like(fake))
    assert turns["discriminator"].total.item() == pytest.approx(want.item(), rel=1e-5)
    assert set(turns["refiner"].losses) == {"adversarial", "matching", "perceptual", "penalty"}
    true = scan(method)[0]
    exact, wrong = method.appearance(true, true), method.appearance(0.5 * true, true)
    assert exact["matching"].item() == 0 and exact["perceptual"].item() == 0
    maps = zip(method.discriminator(0.5 * true), method.discriminator(true), strict=True)
    want = np.mean([(ours - theirs).abs().mean().item() for ours, theirs in maps])
    assert wrong["matching"].item() == pytest.approx(want, rel=1e-5)


def test_redrawn_masks_are_new_whenever_a_slice_is_learned_from():
    method = small(CSMRIRefinement, scan=Undersampling(pattern="varden", fraction=0.5, centre=4, redrawn=True))
    batch = next(batches(method))
    seen = [Scan.of(method.scanned(batch)) for _ in range(2)]
    masks = torch.cat([one.mask for one in seen])
    assert all((a != b).any() for a, b in itertools.combinations(masks, 2))
    want = zero_filled(undersample(batch["target"], masks[:2]))
    torch.testing.assert_close(seen[0].image, want, atol=1e-5, rtol=0)
    fixed = small(CSMRIRefinement, scan=Undersampling(pattern="varden", fraction=0.5))
    assert torch.equal(fixed.scanned(batch), batch["input"])


def test_kspace_gan_measures_half_of_the_lines_and_looks_at_the_middle():
    lines = columns(KSpaceGAN.Config())
    assert len(lines) == 256 and lines.sum() == round(0.52 * 256) and lines[104:152].all()
    with torch.device("meta"):
        critic = CentreDiscriminator((64, 128, 256, 512), (128, 128))
        assert critic(torch.empty(2, 1, 256, 256)).shape == (2, 1, 16, 16)
        layers = [module for module in critic.modules() if isinstance(module, nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == [64, 64, 128, 128, 256, 256, 512, 1]
    assert [layer.stride[0] for layer in layers] == [1, 2, 1, 2, 1, 2, 1, 1]
    critic = CentreDiscriminator((2, 4), (8, 8))
    image = torch.rand(1, 1, 16, 16)
    other = image.clone()
    other[..., :4], other[:, :, 12:] = 0, 0
    assert torch.equal(critic(image), critic(other))


def test_kspace_is_completed_around_the_measured_samples_at_a_scale_of_its_own():
    method = small(KSpaceGAN).inference_mode()
    input = scan(method)[1]
    kept = Scan.of(input)
    torch.testing.assert_close(method.restore(input), kept.image.abs(), msg="an untrained network fills in nothing")
    nn.init.ones_(method.completer.head.bias)
    seen = []
    method.completer.register_forward_hook(lambda module, given, made: seen.append(as_complex(given[0])))
    for drawn in (torch.zeros_like(kept.image), torch.complex(*torch.rand(2, *kept.image.shape))):
        found = fft(method.completed(input, drawn))
        torch.testing.assert_close(found * kept.mask, fft(kept.image), atol=1e-5, rtol=0)
        missing = torch.where(kept.mask, 0, (1 + 1j) * method.unit(kept))
        torch.testing.assert_close(found * ~kept.mask, missing, atol=1e-5, rtol=0)
        torch.testing.assert_close(seen[-1] * ~kept.mask, drawn * ~kept.mask, atol=1e-5, rtol=0)
        assert np.percentile(seen[-1][0][kept.mask[0]].abs(), 99) == pytest.approx(1, rel=1e-4)
    brighter = Scan(5 * kept.image, kept.encoding).packed
    torch.testing.assert_close(method.restore(brighter), 5 * method.restore(input), atol=1e-4, rtol=1e-3)


def test_kspace_gan_has_the_size_of_the_release():
    with torch.device("meta"):
        method = KSpaceGAN(KSpaceGAN.Config.preset("w-net"))
    assert parameters(method.completer) == 4_320_354 and parameters(method.corrector) == 4_320_033
    assert parameters(method.discriminator) == 2_330_305


def test_incompleteness_is_a_sum_over_the_batch_of_unscaled_kspace():
    method = small(KSpaceGAN)
    batch = next(batches(method))
    batch["target"] = torch.full((2, 1, 32, 32), 0.5) * torch.tensor([1.0, 0.5]).view(-1, 1, 1, 1)
    mask = Scan.of(batch["input"]).mask
    assert int((~mask[0]).sum()) == 15 * 32
    row, column = (int(place[0]) for place in torch.where(~mask[0, 0]))
    one = torch.zeros(2, 1, 32, 32, dtype=torch.complex64)
    one[..., row, column] = 8 / 32  # of an orthonormal transform; 8 where a transform sums over 32 x 32 pixels
    assert method.incompleteness(batch["target"].to(torch.complex64), batch).item() == pytest.approx(0, abs=1e-9)
    # Two images, each with an error of 8 in one of 480 missing samples; the largest sample is 0.5 x 1024.
    want = 2 * 8**2 / (480 * 512)
    assert method.incompleteness(batch["target"] + ifft(one), batch).item() == pytest.approx(want, rel=1e-4)


def test_the_discriminator_of_kspace_gan_waits_for_generators_far_behind():
    method = small(KSpaceGAN)
    assert method.discriminator_moves(torch.zeros(3), torch.zeros(3))
    assert not method.discriminator_moves(torch.full((3,), 2.0), torch.full((3,), -2.0))
    assert [[turn.player for turn in move] for move in moves(method.stages()[0].turns(batches(method)))] == [
        ["discriminator", "generator"]
    ], "both players move at once"
    method.discriminator_moves = lambda real, fake: False
    assert list(played(method)) == ["generator"]


def test_the_second_network_of_a_w_net_corrects_the_image():
    config = KSpaceGAN.Config.preset("w-net")
    assert config.image_network and not KSpaceGAN.Config().image_network
    method = small(KSpaceGAN, image_network=True).inference_mode()
    nn.init.zeros_(method.corrector.head.weight)
    nn.init.zeros_(method.corrector.head.bias)
    input = scan(method)[1]
    plain = small(KSpaceGAN).inference_mode()
    plain.completer.load_state_dict(method.completer.state_dict())
    torch.testing.assert_close(method.restore(input), plain.restore(input).tanh())
    nn.init.constant_(method.corrector.head.bias, -9.0)
    assert method.restore(input).max() == 0


def test_sizes_that_would_need_padding_are_refused_or_padded_where_that_does_no_harm():
    with pytest.raises(UserError, match="option size: 36x32, but this system takes multiples of 8"):
        RefineGAN(RefineGAN.Config.preset("small", size=(36, 32)))
    method = small(CSMRIRefinement, size=(30, 33)).inference_mode()
    nn.init.ones_(method.refiner.gate)
    assert method.restore(torch.rand(2, 3, 30, 33)).shape == (2, 1, 30, 33)
