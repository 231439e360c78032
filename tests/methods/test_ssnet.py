"""SSNet: networks, losses, schedule and views of its release."""

import hashlib

import numpy as np
import pytest
import torch
from small import build, configured
from torch import nn

from ganatomy.errors import UserError
from ganatomy.game import Across, Progress
from ganatomy.losses.segmentation import cross_entropy, negative_dice
from ganatomy.methods.segmentation.ssnet import IMAGENET, SSNet, copied
from ganatomy.nets import resnet
from ganatomy.nets.biased_patchgan import BiasedPatchGAN
from ganatomy.nets.global_convolution import BoundaryRefinement, GlobalConvolutionNetwork, enlarged
from ganatomy.nets.resnet import ResNetTrunk

TINY = {"size": (16, 32, 24), "trunk_width": 2, "discriminator_width": 2, "batch_size": 2}

TINY_VIEWS = ("axial", "coronal", "sagittal")


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def batch_of(method, seed=1):
    draw = torch.Generator().manual_seed(seed)
    sizes = {"axial": (32, 24), "coronal": (16, 24), "sagittal": (16, 32)}
    batch = {}
    for view in method.config.views:
        spleen = torch.zeros(2, 1, *sizes[view])
        spleen[:, :, 3:9, 4:15] = 1
        batch[view] = {"t1": torch.rand(2, 1, *sizes[view], generator=draw), "spleen": spleen}
    return batch if len(batch) > 1 else next(iter(batch.values()))


@pytest.mark.parametrize(("separable", "parameters"), [(True, 23_613_088), (False, 23_891_434)])
def test_generators_have_the_published_numbers_of_parameters(separable, parameters):
    with torch.device("meta"):
        network = GlobalConvolutionNetwork(separable=separable)
    assert count(network) == parameters and count(network.trunk) == 23_508_032
    refinements = [layer for layer in network.modules() if isinstance(layer, BoundaryRefinement)]
    assert len(refinements) == 10 and {count(layer) for layer in refinements} == {80}


def test_heads_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        separable, dense = (GlobalConvolutionNetwork(separable=how) for how in (True, False))
    assert [count(head[0]) for head in separable.heads] == [57_408, 28_736, 14_400, 1_856, 1_856]
    assert [count(head[0]) for head in dense.heads] == [200_706, 100_354, 50_178, 25_090, 6_274]


def test_sizes_are_those_of_the_release():
    image = torch.empty(1, 3, 512, 512, device="meta")
    with torch.device("meta"):
        network, discriminator = GlobalConvolutionNetwork().eval(), BiasedPatchGAN(5, padding=2).eval()
    stages = network.trunk(image)
    assert [maps.shape[-1] for maps in stages] == [256, 128, 128, 64, 32, 16]
    assert network(image).shape == (1, 2, 512, 512)
    assert count(discriminator) == 2_768_577
    seen, maps = [], torch.empty(1, 5, 512, 512, device="meta")
    for layer in discriminator:
        maps = layer(maps)
        seen += [maps.shape[-1]] if isinstance(layer, nn.Conv2d) else []
    assert seen == [257, 129, 65, 66, 67]


def test_maps_are_enlarged_with_their_corners_kept():
    row = enlarged(torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2), (1, 4))
    torch.testing.assert_close(row.ravel(), torch.tensor([0, 1 / 3, 2 / 3, 1]))


def test_losses_are_those_of_fixed_logits():
    logits = torch.zeros(2, 2, 1, 4)
    logits[:, 1, 0] = torch.arange(8).reshape(2, 4) / 2 - 2
    spleen = torch.tensor([[0.0, 0, 0, 1], [0, 0, 1, 1]]).reshape(2, 1, 1, 4)
    inside, classes = logits.softmax(1)[:, 1:], torch.cat([1 - spleen, spleen], 1)
    assert negative_dice(inside, spleen, pooled=False).item() == pytest.approx(-0.702332, abs=1e-6)
    assert negative_dice(inside, spleen).item() == pytest.approx(-0.754965, abs=1e-6)
    assert cross_entropy(logits, classes, (1.0, 10.0)).item() == pytest.approx(2.149543, abs=1e-6)
    assert cross_entropy(logits, classes, (1.0, 10.0), per_weight=True).item() == pytest.approx(0.491324, abs=1e-6)


@pytest.mark.parametrize(("logit", "released"), [(-5.0, -0.001116), (-20.0, -2.0)])
def test_an_empty_slice_counts_twice_in_the_release_only(logit, released):
    logits = torch.tensor([0.0, logit]).reshape(1, 2, 1, 1).expand(1, 2, 1, 4)
    inside, spleen = logits.softmax(1)[:, 1:], torch.zeros(1, 1, 1, 4)
    assert negative_dice(inside, spleen, doubled=True).item() == pytest.approx(released, abs=1e-6)
    assert negative_dice(inside, spleen).item() == pytest.approx(released / 2, abs=1e-6)


def test_unknown_voxels_and_absent_classes_do_not_count_in_losses():
    draw = torch.Generator().manual_seed(2)
    inside, spleen = torch.rand(2, 1, 4, 5, generator=draw), torch.zeros(2, 1, 4, 5)
    spleen[:, :, 1:3, 2:4] = 1
    spleen[:, :, 0] = -1
    changed = inside.clone()
    changed[:, :, 0] = 0.3
    assert torch.equal(negative_dice(inside, spleen), negative_dice(changed, spleen))


def test_a_discriminator_that_cannot_tell_has_a_loss_of_one_quarter():
    method = build("ssnet", **TINY)
    assert method.judged(torch.zeros(2, 1, 5, 5), torch.zeros(2, 1, 5, 5)).item() == pytest.approx(0.25)
    other = build("ssnet", game="nonsaturating", **TINY)
    assert other.judged(torch.zeros(2, 1), torch.zeros(2, 1)).item() == pytest.approx(np.log(2))


def test_slices_are_scaled_each_by_itself_and_copied():
    image = torch.tensor([[[[2.0, 4.0], [3.0, 2.0]]], [[[0.5, 0.5], [0.5, 0.5]]]])
    found = copied(image)
    assert found.shape == (2, 3, 2, 2)
    want = torch.tensor([[0, 255.0], [127.5, 0]])
    for channel, mean in enumerate(IMAGENET):
        torch.testing.assert_close(found[0, channel], want - mean)
        torch.testing.assert_close(found[1, channel], torch.full((2, 2), 127.5 - mean))


@pytest.mark.parametrize(("number", "due"), [(0, True), (1, False), (99, False), (100, True)])
def test_discriminators_move_in_every_hundredth_round(number, due):
    method = build("ssnet", **TINY, discriminator_every=SSNet.Config.preset().discriminator_every)
    method.progress = Progress(stage_round=number)
    players = [turn.player for turn in method.turns(iter([batch_of(method)]))]
    assert players == 3 * (["discriminators", "generators"] if due else ["generators"])


def test_rates_are_those_of_the_release_and_constant():
    (stage,) = SSNet(configured("ssnet", **TINY, learning_rate=SSNet.Config.preset().learning_rate)).stages()
    generators, discriminators = (player.optimizer([nn.Parameter(torch.ones(1))]).defaults for player in stage.players)
    assert (generators["lr"], generators["betas"]) == (1e-5, (0.9, 0.999))
    assert (discriminators["lr"], discriminators["betas"]) == (2e-4, (0.5, 0.999))
    assert all(player.schedule is None for player in stage.players)
    paper = SSNet.Config.preset()
    assert (paper.adversarial_weight, paper.batch_size, paper.pool, paper.kernel) == (0.01, 12, 10, 7)
    assert paper.size == (512, 512, 512) and paper.loss == "pooled-dice" and paper.separable


def test_each_view_has_networks_and_slices_of_its_own():
    method = build("ssnet", **TINY)
    (stage,) = method.stages()
    assert {stream.name: stream.patch for stream in stage.streams_in_order} == {
        "axial": (1, 32, 24),
        "coronal": (1, 16, 24),
        "sagittal": (1, 16, 32),
    }
    assert [stream.place for stream in stage.streams_in_order] == [None, Across(1), Across(2)]
    assert [tuple(pool.images.shape[2:]) for pool in method.pools.values()] == [(32, 24), (16, 24), (16, 32)]
    batch = batch_of(method)
    turns = list(method.turns(iter([batch])))
    axial = next(turn for turn in turns if "dice axial" in turn.losses).total
    others = [*method.generators["coronal"].parameters(), *method.generators["sagittal"].parameters()]
    assert all(slope is None for slope in torch.autograd.grad(axial, others, allow_unused=True))


def test_one_view_is_segmented_by_one_network():
    method = build("ssnet", **TINY, views=("coronal",))
    assert list(method.generators) == ["coronal"] and list(method.views) == ["coronal"]
    assert [turn.player for turn in method.turns(iter([batch_of(method)]))][-1] == "generators"


def test_one_network_learns_and_segments_the_slices_of_all_views():
    method, apart = build("ssnet", **TINY, view_all=True), build("ssnet", **TINY)
    assert list(method.generators) == list(method.discriminators) == ["all"] and list(method.pools) == [*TINY_VIEWS]
    assert 3 * count(method.generators) == count(apart.generators)
    turns = list(method.turns(iter([batch_of(method)])))
    assert [turn.player for turn in turns] == 3 * ["discriminators", "generators"]
    weights = [*method.generators.parameters()]
    for turn in turns[1::2]:
        assert any(slope.abs().sum() for slope in torch.autograd.grad(turn.total, weights, retain_graph=True))
    image = torch.rand(2, 1, 32, 24, generator=torch.Generator().manual_seed(4))
    method.inference_mode()
    with torch.no_grad():
        found = [method.views[view](image) for view in TINY_VIEWS]
    assert all(torch.equal(found[0], one) for one in found)


def test_the_discriminator_is_shown_probabilities_or_as_released_logits():
    seen = {}

    class Seen(nn.Module):
        def forward(self, maps):
            seen.setdefault("shown", []).append(maps[:, 3:])
            return maps.mean((1, 2, 3), keepdim=True)

    for shows_logits in (False, True):
        method = build("ssnet", **TINY, views=("axial",), shows_logits=shows_logits, pool=0)
        method.discriminators["axial"] = Seen()
        seen.clear()
        list(method.turns(iter([batch_of(method)])))
        real, fake, again = seen["shown"]
        assert set(real.unique().tolist()) == {0.0, 1.0} and torch.equal(real[:, 0], 1 - real[:, 1])
        assert torch.equal(fake, again.detach()) and not fake.requires_grad and again.requires_grad
        assert torch.allclose(fake.sum(1), torch.ones_like(fake[:, 0])) == (not shows_logits)


def test_the_baseline_has_the_same_generators_and_no_discriminators():
    method, base = build("ssnet", **TINY), build("ssnet", **TINY, **SSNet.Config.baseline)
    assert method.adversarial and not base.adversarial and not base.discriminators
    assert count(method.generators) == count(base.generators)
    turns = list(base.turns(iter([batch_of(base)])))
    assert [list(turn.losses) for turn in turns] == [["dice axial"], ["dice coronal"], ["dice sagittal"]]


def test_slices_have_statistics_of_their_own_or_running_averages_of_separate_norms():
    own = build("ssnet", **TINY, shared_norm=True, batch_statistics=True).inference_mode()
    image = torch.rand(3, 1, 32, 24, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        torch.testing.assert_close(own.segment(image)[:1], own.segment(image[:1]))
    with pytest.raises(UserError, match="--no-batch-statistics: running averages need --no-shared-norm"):
        build("ssnet", **TINY, shared_norm=True)
    running = build("ssnet", **TINY)
    assert {count(layer) for layer in running.modules() if isinstance(layer, BoundaryRefinement)} == {84}


def test_impossible_options_are_refused():
    with pytest.raises(UserError, match="--size: slices, rows and columns of axial volumes"):
        build("ssnet", **{**TINY, "size": (32, 24)})
    with pytest.raises(UserError, match="--inputs: one image with one channel is needed, but there are 2"):
        build("ssnet", **TINY, inputs=("t1", "t2"))
    with pytest.raises(UserError, match="--class-weights: 1 numbers, but background and regions are 2"):
        build("ssnet", **TINY, loss="cross-entropy", class_weights=(1.0,))


def test_a_trunk_begins_with_imagenet_weights_where_they_are_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("GANATOMY_WEIGHTS", str(tmp_path))
    tiny = {**TINY, "trunk": "imagenet"}
    with pytest.raises(UserError, match=r"--trunk imagenet: no weights for this trunk in .*resnet50-0676ba61.pth"):
        build("ssnet", **tiny).check_sizes()
    monkeypatch.setattr("ganatomy.methods.segmentation.ssnet.WIDTH", 2)
    monkeypatch.setattr("ganatomy.methods.segmentation.ssnet.BLOCKS", (1, 1, 1, 1))
    donor = ResNetTrunk(width=2, blocks=(1, 1, 1, 1))
    state = {**donor.state_dict(), "fc.weight": torch.zeros(3, 64)}
    torch.save(state, resnet.resnet50_file())
    with pytest.raises(UserError, match="not torchvision's ResNet-50 weights, or damaged"):
        build("ssnet", **TINY)
    digest = hashlib.sha256(resnet.resnet50_file().read_bytes()).hexdigest()
    monkeypatch.setattr(resnet, "RESNET50_SHA256", digest[:8])
    method = build("ssnet", **tiny)
    method.check_sizes()
    assert method.provenance() == {"trunk": "resnet50 with ImageNet weights"}
    for generator in method.generators.values():
        torch.testing.assert_close(generator.trunk.layer4[0].conv2.weight, donor.layer4[0].conv2.weight)
    assert "substitute" in build("ssnet", **TINY, trunk="random").provenance()["trunk"]
