"""Brain-tumour cGAN: sizes and losses of the authors' release, and reference batches as the paper has them."""

import copy

import pytest
import torch
from small import Samples, build, count, round_of
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.game import moves
from ganatomy.inference.model import load
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.methods.segmentation.brats_cgan import BratsCGAN
from ganatomy.nets.aids import ReferenceBatchNorm, VirtualBatchNorm
from ganatomy.nets.brats_cgan import PairDiscriminator, StoredReference, WideUNet
from ganatomy.training.run import TrainConfig, train


@pytest.mark.parametrize(("preset", "head"), [("paper", 36_865), ("code", 1_048_577)])
def test_networks_have_the_released_numbers_of_parameters(preset, head):
    with torch.device("meta"):
        method = BratsCGAN(BratsCGAN.Config.preset(preset))
    assert count(method.generator) == 489_632_771 and count(method.discriminator) == 24_810_368 + head


def test_extents_are_halved_and_doubled_and_the_deepest_level_is_normalised_too():
    with torch.device("meta"):
        network, critic = WideUNet(4, 3), PairDiscriminator(7, norm="batch", size=(256, 256))
    sizes, parts = [], [*network.down, *network.up]
    for part in parts:
        for layer in part:
            if isinstance(layer, VirtualBatchNorm):
                layer.forward = lambda features: features
        part.register_forward_hook(lambda *given: sizes.append(given[-1].shape[-1]))
    network(torch.empty(1, 4, 256, 256, device="meta"))
    assert sizes == [128, 64, 32, 16, 8, 4, 2, 1, 2, 4, 8, 16, 32, 64, 128, 256]
    held = [any(isinstance(layer, VirtualBatchNorm) for layer in part) for part in parts]
    assert held == [False, *[True] * 7, *[True] * 7, False]
    dropped = [any(isinstance(layer, nn.Dropout) for layer in part) for part in network.up]
    assert dropped == [True] * 3 + [False] * 5
    widths = [next(layer for layer in part if isinstance(layer, nn.ConvTranspose2d)) for part in network.up]
    assert [layer.out_channels for layer in widths] == [1024, 1024, 1024, 1024, 512, 256, 128, 3]
    sizes = []
    for layer in critic:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda *given: sizes.append(tuple(given[-1].shape[1:])))
    critic(torch.empty(2, 7, 256, 256, device="meta"))
    assert sizes == [(128, 128, 128), (256, 64, 64), (512, 32, 32), (1024, 32, 32), (1,)]


def test_a_logit_of_the_patch_head_sees_116_pixels():
    network = PairDiscriminator(2, 3, norm="batch").double().eval()
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)
    image = torch.ones(1, 2, 160, 168, dtype=torch.float64, requires_grad=True)
    logits = network(image)
    assert logits.shape == (1, 1, 20, 21)
    (slope,) = torch.autograd.grad(logits[0, 0, 9, 10], image)
    assert [len(slope.abs().sum((0, 1, 3 - axis)).nonzero()) for axis in (0, 1)] == [116, 116]


def test_initial_weights_are_those_of_the_release():
    network, critic = WideUNet(4, 3, 16, 4), PairDiscriminator(7, 16, size=(32, 32))
    spread = 0.02 * 8**0.5
    for layer in (*network.modules(), *critic.modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            assert not layer.bias.any()
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.abs().max() <= 2.0001 * spread
            assert layer.weight.std().item() == pytest.approx(0.88 * spread, rel=0.05)
        if isinstance(layer, nn.ConvTranspose2d):
            assert layer.weight.std().item() == pytest.approx(spread, rel=0.05)
    gains = [layer.weight for layer in network.modules() if isinstance(layer, VirtualBatchNorm)]
    assert torch.cat(gains).std().item() == pytest.approx(0.02, rel=0.2)
    assert all((one.weight == 1).all() for one in critic.modules() if isinstance(one, ReferenceBatchNorm))


@pytest.mark.parametrize(("kind", "want"), [(VirtualBatchNorm, 1.206973), (ReferenceBatchNorm, 2.836562)])
def test_normalisation_of_ones_by_a_known_reference(kind, want):
    layer = kind(1)
    nn.init.ones_(layer.weight)
    network = StoredReference(nn.Sequential(layer), (2, 1, 2, 2))
    network.store((torch.arange(8.0) / 10).reshape(2, 1, 2, 2))
    found = network(torch.ones(1, 1, 2, 2))
    assert found.flatten().tolist() == pytest.approx([want] * 4, abs=1e-5)


def reference(network, values):
    """Return a network with virtual and reference norms inside, and its reference batch."""
    layers = nn.Sequential(
        nn.Conv2d(2, 3, 3), VirtualBatchNorm(3), nn.ReLU(), nn.Conv2d(3, 2, 1), ReferenceBatchNorm(2)
    )
    stored = network(layers, values.shape)
    stored.store(values)
    return stored


def test_statistics_are_kept_at_inference_and_forgotten_when_training_goes_on():
    torch.manual_seed(0)
    stored, shown = reference(StoredReference, torch.randn(3, 2, 6, 6)), torch.randn(2, 2, 5, 7)
    passes = []
    stored.network[0].register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        want = stored(shown)
        assert len(passes) == 2, "the reference and the batch"
        stored.eval()
        torch.testing.assert_close(stored(shown), want)
        torch.testing.assert_close(stored(shown[:1]), want[:1])
        assert len(passes) == 5, "the reference once, and two batches"
        stored.network[0].weight *= 3
        stored.train()
        changed = stored(shown)
        stored.eval()
        torch.testing.assert_close(stored(shown), changed)
        assert not torch.allclose(changed, want)
        stored.store(torch.randn(3, 2, 6, 6))
        assert not torch.allclose(stored(shown), changed)
    assert stored(shown).requires_grad, "with a gradient the reference passes every time"
    with pytest.raises(ValueError, match=r"samples of \(2, 6, 6\), not \(2, 6, 5\)"):
        stored.store(torch.zeros(3, 2, 6, 5))


@pytest.fixture
def method():
    return build("brats-cgan", dropout=0.0)


def chosen(method):
    """Play the stage in which the reference batch is drawn, and return its batch."""
    stage = method.stages()[0]
    assert list(moves(stage.turns(Samples(method, stage)))) == [] and not stage.players and not stage.validated
    return next(Samples(method, stage))


def test_the_first_stage_stores_a_batch_that_travels_with_the_weights(method):
    batch = chosen(method)
    images, maps = method.image(batch), method.maps(method.truth(batch))
    assert torch.equal(method.generator.reference, images) and len(images) == 4
    pairs = torch.cat([images, maps], 1)
    assert torch.equal(method.discriminator.reference, torch.cat([pairs, pairs]))
    other = build("brats-cgan", dropout=0.0)
    assert not other.generator.reference.any()
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    shown = torch.rand(2, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(other.inference_mode().segment(shown), method.inference_mode().segment(shown))


def test_a_training_begins_with_the_reference_and_is_diagnosed_where_players_move(cases, tmp_path):
    config = BratsCGAN.Config.preset("small", width=2, discriminator_width=2, patch=32, batch_size=2)
    data = DataConfig(phantom_subjects=4, phantom_size=48, cache=cases)
    options = TrainConfig(rounds=3, device="cpu", threads=1, validate_every=1, validation_slices=1)
    train("brats-cgan", tmp_path / "run", config, data, options)
    method = load(tmp_path / "run", which="last", device="cpu").method
    assert method.generator.reference.any() and method.discriminator.reference.any()


def test_the_reference_of_the_discriminator_holds_what_the_generator_makes_now(method):
    chosen(method)
    made, channels = [], method.image_channels
    for _ in round_of(method, next(Samples(method, method.stages()[1]))):
        pairs = method.discriminator.reference
        made.append(pairs[4:, channels:].clone())
        assert torch.equal(pairs[4:, :channels], pairs[:4, :channels])
        with torch.no_grad():
            torch.testing.assert_close(made[-1], method.made(method.generator.reference))
    assert len(made) == 3 and torch.equal(made[0], made[1]) and not torch.equal(made[1], made[2])


def test_one_update_of_the_discriminator_and_two_of_the_generator_on_the_same_slices():
    method = build("brats-cgan", dropout=0.0, jitter=0)
    chosen(method)
    drawn = iter([next(Samples(method, method.stages()[1]))])
    turns = list(method.turns(drawn))
    assert [turn.player for turn in turns] == ["discriminator", "generator", "generator"]
    torch.testing.assert_close(turns[1].losses, turns[2].losses)  # nobody has moved


def test_losses_of_known_values():
    real, fake = torch.tensor([0.5]), torch.tensor([-0.2])
    assert nonsaturating_discriminator(real, fake).item() == pytest.approx(1.072216, abs=1e-6)
    assert nonsaturating_generator(fake).item() == pytest.approx(0.798139, abs=1e-6)
    method = build("brats-cgan", regions={"core": (1, 4)}, jitter=0)
    made = torch.tensor([-0.6, -0.2, 0.2, 0.6]).repeat(32 * 8).reshape(1, 1, 32, 32)
    method.made = lambda image: made.repeat(len(image), 1, 1, 1)
    batch = next(Samples(method, method.stages()[1]))
    batch["tumour"] = torch.tensor([0.0, 0, 1, 1]).repeat(2 * 32 * 8).reshape(2, 1, 32, 32)
    turn = list(method.turns(iter([batch])))[-1]
    assert turn.losses["l1"].item() == pytest.approx(60, rel=1e-5)


def test_slices_are_stretched_between_their_extremes_one_by_one(method):
    image = torch.rand(3, 4, 6, 5)
    image[1, 2] = 0
    found = method.stretched(image)
    assert torch.equal(found[1, 2], torch.full((6, 5), -1.0))
    torch.testing.assert_close(found[0].amin((1, 2)), torch.full((4,), -1.0))
    torch.testing.assert_close(found[2].amax((1, 2)), torch.full((4,), 1.0))
    whole = build("brats-cgan", slice_minmax=False)
    torch.testing.assert_close(whole.stretched(image), 2 * image - 1)


def test_slices_and_their_maps_are_shifted_alike():
    method = build("brats-cgan", jitter=3)
    image, maps = torch.arange(80 * 20.0).reshape(80, 1, 5, 4), torch.arange(80 * 20.0).reshape(80, 1, 5, 4) + 0.5
    moved, others = method.shifted(image, maps)
    torch.testing.assert_close(others, moved + 0.5)
    first = [(one[0] - 20 * number).argmin() for number, one in enumerate(moved)]
    rows = {(at // 4).item() if at // 4 < 3 else (at // 4).item() - 5 for at in first}
    assert rows == {-2, -1, 0, 1, 2} or rows == {-3, -2, -1, 0, 1, 2}


def test_unknown_voxels_are_neither_learned_nor_judged(method):
    chosen(method)
    batch = next(Samples(method, method.stages()[1]))
    batch["tumour"][:, :, 5:9, 7:20] = -1
    seen, turns = [], []
    method.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    turns = list(method.turns(iter([batch])))
    assert len(seen) == 4 and all((pair[:, 4:, 5:9, 7:20] == 0).all() for pair in seen)
    assert torch.isfinite(turns[-1].total)


def test_the_released_networks_have_plain_batch_norm_and_no_first_stage():
    method = build("brats-cgan", norm="batch", head="scalar", dropout=0.0)
    (stage,) = method.stages()
    kinds = {type(layer) for layer in method.modules()}
    assert nn.BatchNorm2d in kinds and not kinds & {VirtualBatchNorm, ReferenceBatchNorm}
    turns = list(stage.turns(Samples(method, stage)))
    assert len(turns) == 3 and turns[0].scores["real"].shape == (2, 1)
    with torch.no_grad():
        found = method.inference_mode().segment(torch.rand(1, 4, 32, 32))
    assert torch.isfinite(found).all(), "the bottleneck of one pixel in a batch of one is the bias of its norm"


def test_every_axis_is_a_model_of_its_own():
    sagittal = BratsCGAN.Config.preset("sagittal", width=2, discriminator_width=2)
    assert BratsCGAN(sagittal).task.preparation.plane == "sagittal"
    assert (sagittal.patch, sagittal.batch_size, sagittal.levels) == (128, 16, 7)


def test_a_patch_that_the_levels_do_not_divide_is_refused():
    with pytest.raises(UserError, match="--patch 48: not a multiple of 32, which --levels 5 needs"):
        build("brats-cgan", patch=48)
