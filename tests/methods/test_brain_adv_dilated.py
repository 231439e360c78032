"""Adversarial dilated CNN: sizes, receptive fields, losses and epochs of the paper."""

import pytest
import torch
from small import Samples, build, count
from torch import nn
from torch.nn.functional import one_hot

from ganatomy.game import Balanced
from ganatomy.losses.segmentation import cross_entropy
from ganatomy.methods.segmentation.brain_adv_dilated import GENERATED, MANUAL, NETWORKS, BrainAdvDilated, called
from ganatomy.nets.patchwise import DilatedDiscriminator, DilatedSegmentor


def segmentor(network, classes=7, **options):
    dilations, hidden = NETWORKS[network]
    return DilatedSegmentor(1, classes, dilations, **{"hidden": hidden, **options})


@pytest.mark.parametrize(
    ("preset", "classes", "fcn", "dilated", "discriminator"),
    [("adults", 7, 140_551, 56_039, 85_794), ("paper", 8, 140_808, 56_072, 86_082)],
)
def test_networks_have_the_published_numbers_of_parameters(preset, classes, fcn, dilated, discriminator):
    with torch.device("meta"):
        methods = [BrainAdvDilated(BrainAdvDilated.Config.preset(preset, network=name)) for name in ("fcn", "dilated")]
    assert len(methods[0].config.regions) == classes
    assert [count(method.segmentor) for method in methods] == [fcn, dilated]
    assert [count(method.discriminator) for method in methods] == [discriminator] * 2


@pytest.mark.parametrize(("network", "size", "field"), [("fcn", 55, 31), ("dilated", 91, 67)])
def test_segmentors_return_25_pixels_of_a_patch_and_see_their_field(network, size, field):
    with torch.device("meta"):
        assert segmentor(network)(torch.empty(2, 1, size, size)).shape == (2, 7, 25, 25)
        padded = 256 + field - 1
        assert segmentor(network)(torch.empty(1, 1, padded, padded)).shape == (1, 7, 256, 256)
    small = segmentor(network, 3, width=3, hidden=4 if network == "fcn" else 0).double().eval()
    for layer in small:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)  # all ReLUs pass
    image = torch.ones(1, 1, field + 2, field + 1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(small(image)[0, :, 1, 0].sum(), image)
    rows, columns = (slope[0, 0].abs().sum(1 - axis).nonzero().flatten() for axis in (0, 1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, field, 0, field - 1)


def test_the_discriminator_decides_once_for_25_pixels():
    network = DilatedDiscriminator(1, 7, width=3, hidden=5)
    maps, image = torch.rand(2, 7, 25, 25), torch.rand(2, 1, 25, 25)
    assert network.maps(maps).shape == network.image(image).shape == (2, 3, 21, 21)
    sizes = []
    for layer in network.joined:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_hook(lambda *parts: sizes.append(parts[-1].shape[-1]))
    assert network(maps, image).shape == (2, 2, 1, 1)
    assert sizes == [19, 17, 15, 5, 3, 1, 1, 1]


def test_batch_norm_and_dropout_are_at_the_layers_of_one_pixel_alone():
    for network, hidden in ((segmentor("fcn"), 1), (segmentor("dilated"), 0), (DilatedDiscriminator(1, 7), 1)):
        kinds = [type(layer) for layer in network.modules()]
        assert kinds.count(nn.BatchNorm2d) == hidden and kinds.count(nn.Dropout) == 1
    assert [type(layer) for layer in segmentor("fcn")][-5:] == [
        nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout, nn.Conv2d,
    ]  # fmt: skip


@pytest.mark.parametrize(("preset", "classes", "images", "epoch"), [("adults", 7, 15, 52_500), ("paper", 8, 5, 20_000)])
def test_epochs_are_of_50_000_patches_per_class_and_image(preset, classes, images, epoch):
    config = BrainAdvDilated.Config.preset(preset)
    assert classes * images * 50_000 == epoch * config.batch_size and config.game_rounds == 5 * epoch


def test_losses_of_known_scores():
    real, fake = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.2, 0.0]])
    assert called(real, MANUAL).item() == pytest.approx(0.313262, abs=1e-6)
    assert called(fake, GENERATED).item() == pytest.approx(0.798139, abs=1e-6)
    assert (called(real, MANUAL) + called(fake, GENERATED)).item() == pytest.approx(1.111401, abs=1e-6)
    assert called(fake, MANUAL).item() == pytest.approx(0.598139, abs=1e-6)


def played(**values):
    """Return the turns of a round in which nobody moves, and its batch."""
    method = build("brain-adv-dilated", dropout=0.0, **values)
    batch = next(Samples(method, method.stages()[0]))
    return method, batch, list(method.turns(iter([batch])))


@pytest.mark.parametrize("network", ["dilated", "fcn"])
def test_the_segmentor_maximises_what_the_discriminator_minimises_of_its_maps(network):
    _, _, (first, second) = played(network=network, adversarial_weight=2.0)
    assert (first.player, list(first.losses)) == ("discriminator", ["manual", "generated"])
    assert (second.player, list(second.losses)) == ("segmentor", ["classes", "adversarial"])
    torch.testing.assert_close(second.losses["adversarial"], -2 * first.losses["generated"])


def test_the_option_for_a_loss_that_does_not_saturate():
    method, batch, (first, second) = played(adversarial="nonsaturating", adversarial_weight=1.0)
    image = method.image(batch["generated"])
    logits = method.judge(method.segmentor(image).softmax(1), image)
    torch.testing.assert_close(second.losses["adversarial"], called(logits, MANUAL))
    torch.testing.assert_close(first.losses["generated"], called(logits, GENERATED))


def test_every_term_has_samples_of_its_own_and_the_image_is_that_of_the_centre():
    method, batch, (first, second) = played()
    manual, learned = batch["manual"], batch["classes"]
    margin = method.segmentor.margin
    inner = manual["t1"][..., margin:-margin, margin:-margin]
    assert inner.shape[2:] == (25, 25)
    torch.testing.assert_close(
        first.losses["manual"], called(method.discriminator(manual["structures"], inner), MANUAL)
    )  # fmt: skip
    torch.testing.assert_close(
        second.losses["classes"], cross_entropy(method.segmentor(learned["t1"]), learned["structures"])
    )


def test_players_move_by_rmsprop_without_momentum_and_the_discriminator_slowly():
    with torch.device("meta"):
        players = BrainAdvDilated(BrainAdvDilated.Config()).stages()[0].players
    for player, rate in zip(players, (1e-3, 1e-5), strict=True):
        options = player.optimizer(player.parameters()).defaults
        assert (options["lr"], options["alpha"], options["eps"], options["momentum"]) == (rate, 0.9, 1e-8, 0)
        assert player.schedule is None


@pytest.mark.parametrize(("preset", "classes"), [("paper", 8), ("adults", 7)])
def test_centres_of_patches_are_of_every_class_equally_often(preset, classes):
    with torch.device("meta"):
        streams = BrainAdvDilated(BrainAdvDilated.Config.preset(preset)).stages()[0].streams_in_order
    assert [stream.name for stream in streams] == ["classes", "manual", "generated"]
    for stream in streams:
        assert isinstance(stream.place, Balanced) and list(stream.place.shares.values()) == [1 / classes] * classes
        assert stream.batch_size == 100 and stream.patch == (1, 25, 25) and stream.margin == (0, 33, 33)
    assert streams[0].place.shares[(3, 4) if preset == "paper" else (44, 45)] == 1 / classes


def test_labels_of_the_challenges_become_the_classes_of_the_paper():
    for preset, label, name in (
        ("paper", 4, "white"),
        ("adults", 107, "cortex"),
        ("adults", 36, "nuclei"),
        ("adults", 46, "background"),
    ):
        with torch.device("meta"):
            role = BrainAdvDilated(BrainAdvDilated.Config.preset(preset)).task.target
        found = role.indicators(torch.full((1, 1, 1, 1), label).numpy())
        assert [one for one, inside in zip(role.names, found.ravel(), strict=True) if inside == 1] == [name]


def test_the_baseline_is_the_same_segmentor_with_samples_of_one_stream():
    base = build("brain-adv-dilated", **BrainAdvDilated.Config.baseline)
    (stream,) = base.stages()[0].streams_in_order
    (turn,) = base.turns(iter([next(Samples(base, base.stages()[0]))]))
    assert stream.name == "classes" and list(turn.losses) == ["classes"] and not base.adversarial


def test_unknown_voxels_are_hidden_from_the_discriminator():
    method, batch, _ = played()
    truth = one_hot(torch.randint(6, (2, 25, 25)), 6).movedim(-1, 1).float()
    truth[:, :, 3:9, 5:7] = -1
    seen = []
    method.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    changed = {**batch, "manual": {**batch["manual"], "structures": truth}}
    list(method.turns(iter([changed])))
    assert (seen[0][:, :, 3:9, 5:7] == 0).all() and seen[0].sum() == 2 * (25 * 25 - 12)
