import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ganatomy.game import Progress, moves
from ganatomy.images.image import Image
from ganatomy.methods.reconstruction.dagan import DAGAN, relative_error, spectral_error
from ganatomy.methods.reconstruction.deep_dealiasing import DeepDealiasing
from ganatomy.methods.reconstruction.gancs import GANCS, MagnitudeDiscriminator, ResidualReconstructor
from ganatomy.methods.reconstruction.refinegan import RefineCritic, RefineGAN, RefineGenerator
from ganatomy.nets.dealiasing import DealiasingDiscriminator, DealiasingUNet
from ganatomy.physics.consistency import departure
from ganatomy.physics.fourier import fft
from ganatomy.physics.sampling import undersample, zero_filled
from ganatomy.tasks.reconstruction import Scan, packed, unpacked

KINDS = (DeepDealiasing, DAGAN, GANCS, RefineGAN)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks as small as these lose more to waiting for each other than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def small(kind, **values):
    torch.manual_seed(0)
    return kind(kind.Config.preset("small", **{"size": (32, 32), "batch_size": 2, **values}))


def scan(method, count=2, size=32):
    """True images and what a scan of them shows."""
    true = torch.zeros(count, 1, size, size)
    true[..., size // 4 : -size // 4, size // 8 : -size // 8] = torch.linspace(0.4, 0.9, count).view(-1, 1, 1, 1)
    mask = method.task.scan.mask((size, size)).expand(count, 1, -1, -1)
    return true, packed(zero_filled(undersample(true, mask)), mask)


def batches(method):
    true, input = scan(method)
    while True:
        yield {"input": input, "target": true} | ({"phase": 0 * true} if "phase" in method.task.roles else {})


def played(method):
    """Turns of one round of the last stage, by player."""
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
        assert MagnitudeDiscriminator(8)(torch.empty(3, 1, 40, 24)).shape == (3, 1)


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
        want = unpacked(input)[0].abs().clamp_max(1) if refine else torch.full_like(input[:, :1], 0.5)
        torch.testing.assert_close(method.restore(input), want, atol=1e-5, rtol=0)


def test_augmented_images_are_scanned_again():
    method = small(DAGAN)
    batch = next(batches(method))
    true, input = method.scanned(batch)
    assert (true - batch["target"]).abs().mean() > 0.02 and true.min() >= 0 and true.max() <= 1
    torch.testing.assert_close(input, scanned_by_hand(true, batch["input"]), atol=1e-5, rtol=0)
    kept, same = small(DAGAN, augment=False).scanned(batch)
    assert torch.equal(kept, batch["target"]) and torch.equal(same, batch["input"])


def scanned_by_hand(true, input):
    _, mask = unpacked(input)
    return packed(zero_filled(undersample(true, mask)), mask)


def test_images_are_bent_by_a_few_percent_of_their_size_whatever_that_is():
    method = small(DAGAN)
    spreads = [method._bend(torch.zeros(64, 1, size, size)).std().item() for size in (32, 64)]
    assert spreads == pytest.approx([0.038, 0.038], rel=0.1)


@pytest.mark.parametrize("kind", [GANCS, RefineGAN])
def test_the_measured_samples_are_kept(kind):
    method = small(kind).inference_mode()
    _, input = scan(method)
    image, mask = unpacked(input)
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
    assert warm_up.rounds == 400 and not warm_up.validated and game.validated
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
    method = small(RefineGAN, augment=False)
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
    plain = {"augment": False, "perceptual_weight": 0.0}
    given = {name: value for name, value in plain.items() if name in kind.Config.model_fields}
    method = small(kind, **kind.Config.baseline, **given)
    true, input = scan(method)
    (player,) = method.stages()[-1].players
    optimizer = torch.optim.Adam(player.parameters(), 2e-3)
    before = (unpacked(input)[0].abs() - true).square().mean().item()
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
    prepared = asked.prepare({"target": Image.from_array(values)}, 0)
    batch = {name: torch.from_numpy(image.numpy()).transpose(0, 1) for name, image in prepared.items()}
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
    prepared = method.task.prepare({"target": Image.from_array(values)}, 0)
    shown = Scan.of(torch.from_numpy(prepared["input"].numpy()).transpose(0, 1))
    start = torch.randn(2, 1, 32, 32, dtype=torch.complex64)
    before, after = (departure(image, shown.image, shown.encoding).mean() for image in (start, shown.keep(start)))
    assert after < 0.1 * before
