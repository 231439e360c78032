"""DAN: layers of the re-implementations, whom the evaluation network is shown, and the weights over training."""

import numpy as np
import pytest
import torch
from small import Samples, build
from torch import nn

from ganatomy.case import Case, Held
from ganatomy.errors import UserError
from ganatomy.game import Progress, moves
from ganatomy.losses.segmentation import cross_entropy, dice_loss
from ganatomy.methods.segmentation.dan import DAN
from ganatomy.nets.dan import BranchedSegmentor, EvaluationNetwork, TwoStemDiscriminator
from ganatomy.phantoms import make, part


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def dan(**values):
    return build("dan", **values)


def stage_of(method, name="adversarial"):
    return next(stage for stage in method.stages() if stage.name == name)


def turns_of(method, samples=None):
    stage = stage_of(method)
    return [turn for move in moves(stage.turns(samples or Samples(method, stage))) for turn in move]


def test_networks_have_the_parameters_of_the_re_implementations():
    with torch.device("meta"):
        assert count(BranchedSegmentor(3)) == 41_860_032
        assert count(EvaluationNetwork(4)) == 15_725_697
        flat = EvaluationNetwork(4, size=(15, 22))
        assert count(flat) == 52_556_929 and count(flat.features) == 9_260_800
        assert count(TwoStemDiscriminator(1, 4)) == 2_762_754
        method = DAN(DAN.Config())
    assert (count(method.segmentor), count(method.evaluator)) == (41_860_032, 15_725_697)


def test_three_depths_are_joined_at_full_size_the_deepest_first():
    network, seen = BranchedSegmentor(3, width=1 / 16), {}
    for name in ("first", "second", "third", "classify"):
        getattr(network, name).register_forward_hook(
            lambda module, given, made, n=name: seen.update({n: (given[0], made)})
        )
    with torch.no_grad():
        assert network(torch.rand(2, 3, 64, 96)).shape == (2, 2, 64, 96)
    assert [tuple(seen[name][1].shape[1:]) for name in ("first", "second", "third")] == [
        (32, 8, 12),
        (32, 4, 6),
        (64, 2, 3),
    ]
    assert seen["classify"][0].shape == (2, 128, 64, 96)
    deepest = seen["classify"][0][:, :64]
    want = nn.functional.interpolate(seen["third"][1], size=(64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(deepest, network.joined[0](want), rtol=1e-4, atol=1e-4)


def test_branches_have_heads_of_their_own_where_they_are_asked_for():
    method = dan(auxiliary_weight=0.5)
    batch = next(Samples(method, stage_of(method, "supervised")))
    levels = method.segmentor.levels(method.image(batch))
    assert [tuple(one.shape) for one in levels] == [tuple(levels[0].shape)] * 4
    losses = method.fit_losses(levels, method.truth(batch))
    want = 0.5 * sum(cross_entropy(one, method.truth(batch)) for one in levels[1:])
    torch.testing.assert_close(losses["auxiliary"], want)
    assert dan().segmentor.heads is None and len(dan().segmentor.levels(torch.rand(2, 3, 32, 32))) == 1


class Scores(nn.Module):
    """An evaluation network that scores annotated images with 0.8 and the others with 0.3."""

    def forward(self, shown):
        scores = torch.full((len(shown), 1), 0.8) if len(shown) > 2 else torch.full((len(shown), 1), 0.3)
        scores[-2:] = 0.3
        return scores.logit()


def test_losses_are_means_over_each_kind_of_image_and_are_added():
    method = dan(rise="constant", adversarial_weight=1.0)
    method.evaluator = Scores()
    segmentor, evaluator = turns_of(method)
    assert (segmentor.player, evaluator.player) == ("segmentor", "evaluator")
    assert evaluator.total.item() == pytest.approx(0.579818, abs=1e-6)
    assert segmentor.losses["adversarial"].item() == pytest.approx(1.203973, abs=1e-6)
    assert set(segmentor.losses) == {"entropy", "adversarial"} and set(evaluator.losses) == {"annotated", "unannotated"}


def test_good_results_are_the_networks_own_and_no_true_ones():
    method = dan()
    stage = stage_of(method)
    batch = next(Samples(method, stage))
    changed = {**batch, "annotated": {**batch["annotated"], "glands": batch["annotated"]["glands"].flip(3)}}
    first, second = (list(method_turns(method, one))[1] for one in (batch, changed))
    for name in ("annotated", "unannotated"):
        torch.testing.assert_close(first.losses[name], second.losses[name])


def method_turns(method, batch):
    torch.manual_seed(0)
    kept = {name: value.clone() for name, value in method.state_dict().items() if isinstance(value, torch.Tensor)}
    for move in moves(stage_of(method).turns(iter([batch]))):
        yield from move
    method.load_state_dict(kept)


def test_the_network_that_does_not_learn_is_in_its_mode_of_use():
    method, modes = dan().train(), []
    stage = stage_of(method)
    for move in moves(stage.turns(Samples(method, stage))):
        modes.append((move[0].player, method.segmentor.training, method.evaluator.training))
    assert modes == [("segmentor", True, False), ("evaluator", False, True)]
    assert method.segmentor.training and method.evaluator.training


def test_of_two_classes_the_evaluation_network_sees_one_probability():
    method = dan()
    seen = []
    method.evaluator.register_forward_hook(lambda module, given, made: seen.append(given[0]))
    image, logits = torch.rand(2, 3, 32, 32), torch.randn(2, 2, 32, 32)
    method.evaluator.eval()
    method.quality(logits, image)
    torch.testing.assert_close(seen[0], torch.cat([image, logits.softmax(1)[:, 1:]], 1))
    several = {"background": (0,), "gland": (1,), "edge": (2,)}
    assert dan(regions=several, judged={"glands": (1, 2)}).shown_classes == 3


def test_the_two_stem_network_scores_with_the_difference_of_its_classes():
    with pytest.raises(UserError, match="--patch 64: the two-stem evaluation network takes 256 rows and columns"):
        dan(evaluation="two-stem", patch=64).check_sizes()
    method = dan(evaluation="two-stem", patch=256)
    method.check_sizes()
    with torch.no_grad():
        maps, image = torch.randn(2, 2, 256, 256), torch.rand(2, 3, 256, 256)
        method.evaluator.eval()
        two = method.evaluator(maps.softmax(1), image)
        score = method.quality(maps, image)
    torch.testing.assert_close(score.sigmoid(), two.softmax(1)[:, 1:])


@pytest.mark.parametrize(("done", "want"), [(0, 6.738e-4), (15_000, 0.0286505), (29_999, 0.0999875)])
def test_the_weight_of_the_adversary_rises_along_the_ramp(done, want):
    progress = Progress(stage_round=done, stage_rounds=30_000)
    assert dan(adversarial_weight=0.1).adversarial_weight(progress) == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize(("epoch", "want"), [(1, 0.10333), (150, 0.6), (300, 1.1)])
def test_the_weight_rises_linearly_in_the_other_re_implementation(epoch, want):
    method = dan(adversarial_weight=0.1, rise="linear")
    assert method.adversarial_weight(Progress(stage_round=epoch - 1, stage_rounds=300)) == pytest.approx(want, abs=1e-5)
    assert dan(adversarial_weight=0.1, rise="constant").adversarial_weight(Progress()) == 0.1


def test_the_preset_ssl4mis_has_its_rates_and_batches():
    with torch.device("meta"):
        method = DAN(DAN.Config.preset("ssl4mis"))
    (stage,) = method.stages()
    segmentor, evaluator = stage.players
    optimisers = [player.optimizer([nn.Parameter(torch.ones(1))]) for player in stage.players]
    assert isinstance(optimisers[0], torch.optim.SGD) and optimisers[0].defaults["weight_decay"] == 1e-4
    assert (optimisers[0].defaults["lr"], optimisers[0].defaults["momentum"]) == (0.01, 0.9)
    assert (optimisers[1].defaults["lr"], optimisers[1].defaults["betas"]) == (1e-4, (0.9, 0.99))
    factors = [segmentor.schedule(Progress(stage_round=at, stage_rounds=30_000)) for at in (0, 15_000, 29_999)]
    assert [0.01 * one for one in factors] == pytest.approx([0.01, 5.3589e-3, 9.345e-7], rel=1e-4)
    assert evaluator.schedule is None and stage.rounds == 30_000
    assert [stream.batch_size for stream in stage.streams] == [12, 12]
    paper = DAN.Config()
    assert (paper.learning_rate, paper.evaluation_rate, paper.schedule, paper.patch % 32) == (1e-3, 1e-4, "constant", 0)


def test_the_supervised_loss_of_ssl4mis_is_half_entropy_and_half_dice():
    method = dan(entropy_weight=0.5, dice_weight=0.5)
    batch = next(Samples(method, stage_of(method, "supervised")))
    logits, truth = method.segmentor(method.image(batch)), method.truth(batch)
    losses = method.fit_losses([logits], truth)
    torch.testing.assert_close(
        losses["entropy"] + losses["dice"], 0.5 * (cross_entropy(logits, truth) + dice_loss(logits.softmax(1), truth))
    )
    with pytest.raises(UserError, match="--entropy-weight 0: nothing is learned from annotations"):
        dan(entropy_weight=0.0)


def test_streams_are_of_cases_with_and_without_annotation():
    annotated, others = stage_of(dan(halved=False)).streams
    assert annotated.roles == ("image", "glands") and annotated.fold is None
    assert (others.roles, others.without, others.fold) == (("image",), ("glands",), None)
    annotated, others = stage_of(dan(halved=True)).streams
    assert (annotated.fold, others.fold, others.without) == ((1, 2), (0, 2), ())
    assert stage_of(dan(halved=True), "supervised").stream.fold == (1, 2)
    annotated, others = stage_of(dan(halved=False, every_image=True)).streams
    assert (annotated.fold, others.fold, others.roles, others.without) == (None, None, ("image",), ())


def samples(method, hidden):
    found = []
    for seed in range(3):
        patient = make("stained-glands", seed, size=48)
        parts = {name: part(patient, where) for name, where in method.task.phantom_parts(None).items()}
        if seed in hidden:
            parts.pop("glands")
        sources = {name: Held(value) for name, value in parts.items()}
        found.append(method.task.frame(parts, Case(f"c{seed}", f"s{seed}", "train", sources)))
    return found


def test_images_without_annotations_are_needed_or_half_of_them_hidden():
    method = dan(halved=False)
    with pytest.raises(UserError, match="every training case has glands, but this system learns from images without"):
        method.check_samples(samples(method, ()))
    assert not method.check_samples(samples(method, (1,)))
    assert not dan(halved=True).check_samples(samples(method, ()))
    assert not dan(halved=False, every_image=True).check_samples(samples(method, ()))
    (told,) = dan(halved=True).check_samples(samples(method, (1,)))
    assert told.startswith("1 training cases have no glands, and --halved also hides those of half of the subjects")
    assert not dan(halved=False, adversarial_weight=0.0).check_samples(samples(method, ()))


def test_the_baseline_is_trained_for_as_many_updates_on_the_same_annotations():
    method, base = dan(), dan(**DAN.Config.baseline)
    (stage,) = base.stages()
    assert stage.rounds == sum(one.rounds for one in method.stages()) and not base.adversarial
    assert stage.stream.fold == (1, 2) and count(base.segmentor) == count(method.segmentor)
    (turn,) = (turn for move in moves(stage.turns(Samples(base, stage))) for turn in move)
    assert list(turn.losses) == ["entropy"]


def test_patches_are_multiples_of_32():
    with pytest.raises(UserError, match="--patch 48: rows and columns must be multiples of 32"):
        dan(patch=48).check_sizes()
    assert dan().tiling.multiple == 32


def test_colours_are_seen_from_0_to_1():
    method = dan()
    sample = samples(method, ())[0]
    encoded = sample.role("image").encoded(np.asarray(sample.arrays["image"]))
    assert encoded.shape[0] == 3 and 0 <= encoded.min() < 0.4 and 0.9 < encoded.max() <= 1
