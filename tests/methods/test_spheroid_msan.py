"""Multi-scale adversarial network for spheroids: layers, weights of pixels, and the rising weight of its adversary."""

import numpy as np
import pytest
import torch
from small import build

from ganatomy.errors import UserError
from ganatomy.game import Progress
from ganatomy.losses.segmentation import binary_cross_entropy
from ganatomy.methods.segmentation.spheroid_msan import BORDERS, INSIDE_SHARE, SpheroidMSAN
from ganatomy.phantoms import make, part
from ganatomy.tasks.segmentation.borders import border_weights


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def task():
    return build("spheroid-msan").task


def sample_of(task, seed=0, size=64):
    patient = make("spheroids", seed, size=size)
    values = {name: part(patient, where) for name, where in task.phantom_parts(None).items()}
    return task.simulate(task.frame(values), 0)


def test_networks_have_the_parameters_of_the_table_of_layers():
    method = SpheroidMSAN(SpheroidMSAN.Config())
    assert count(method.segmentor) == 4_215_623 and count(method.discriminator) == 388_833
    seen = []
    method.segmentor.encoder[-1].register_forward_hook(lambda module, given, made: seen.append(tuple(made.shape)))
    with torch.no_grad():
        assert method.segmentor(torch.rand(2, 1, 64, 64)).shape == (2, 1, 64, 64)
        assert method.discriminator(torch.rand(3, 2, 48, 40)).shape == (3, 1)
    assert seen == [(2, 256, 8, 8)]


def test_without_scales_it_is_a_residual_u_net_with_one_head():
    several, single = (SpheroidMSAN(SpheroidMSAN.Config(scales=scales)).segmentor for scales in (True, False))
    # Two convolutions of the smaller images with their norms, 16 further inputs of two residual blocks, two heads, and
    # the fusion of three.
    fewer = 2 * (9 * 16 + 32) + 16 * 10 * (64 + 128) + (64 + 1) + (128 + 1) + (3 + 1)
    assert count(several) - count(single) == fewer
    assert not single.scaled and len(single.heads) == 1
    with torch.no_grad():
        assert single(torch.rand(1, 1, 32, 40)).shape == (1, 1, 32, 40)


@pytest.mark.parametrize(("first", "second", "want"), [(1, 1, 9.231163), (3, 5, 2.780373), (5, 10, 0.111090)])
def test_weights_between_objects_fall_with_the_distances_to_both(first, second, want):
    numbers = np.zeros((5, 40), np.uint16)
    numbers[:, :10], numbers[:, 9 + first + second :] = 4, 9
    weights = border_weights(numbers, 10.0, 5.0)
    assert weights[2, 9 + first] == pytest.approx(want, abs=1e-6)
    assert not weights[numbers > 0].any(), "inside of objects there is none"


def test_a_single_object_has_no_weights_around_it_and_a_third_one_changes_none_far_away():
    numbers = np.zeros((30, 90), np.uint16)
    numbers[3:9, 4:10] = 2
    assert not border_weights(numbers, 10.0, 5.0).any()
    numbers[3:9, 14:20] = 1
    pair = border_weights(numbers, 10.0, 5.0)
    numbers[20:26, 80:88] = 3
    assert pair.max() > 1
    np.testing.assert_allclose(border_weights(numbers, 10.0, 5.0)[:, :40], pair[:, :40], atol=1e-6)


def test_the_weighted_loss_is_divided_by_the_number_of_pixels():
    logits, target = torch.tensor([[[[0.5, -0.5, 1.0]]]]), torch.tensor([[[[1.0, 0.0, 0.0]]]])
    weights = torch.tensor([[[[1.0, 2.0, 5.0]]]])
    loss = binary_cross_entropy(logits, target, weights)
    assert float(loss) == pytest.approx(2.662846, abs=1e-6)
    assert float(loss) * 3 / 8 == pytest.approx(0.998567, abs=1e-6), "the form that is divided by the weights"
    unknown = torch.tensor([[[[1.0, -1.0, 0.0]]]])
    want = (
        binary_cross_entropy(logits[..., :1], target[..., :1])
        + 5 * binary_cross_entropy(logits[..., 2:], target[..., 2:])
    ) / 2
    torch.testing.assert_close(binary_cross_entropy(logits, unknown, weights), want)


def test_the_weight_of_the_adversary_rises_linearly_from_nothing():
    method = build("spheroid-msan", adversarial_weight=0.1)
    found = [method.alpha(Progress(stage_round=at, stage_rounds=400)) for at in (0, 200, 400)]
    assert found == pytest.approx([0, 0.05, 0.1])
    constant = build("spheroid-msan", adversarial_weight=0.1, rise="constant")
    assert [constant.alpha(Progress(stage_round=at, stage_rounds=400)) for at in (0, 400)] == [0.1, 0.1]


def test_cases_are_prepared_with_weights_between_their_objects(task):
    sample = sample_of(task, seed=3)
    borders, numbers = (np.asarray(sample.arrays[name]) for name in (BORDERS, "spheroids"))
    assert borders.dtype == np.float32 and borders.shape == numbers.shape == (1, 1, 64, 64)
    np.testing.assert_array_equal(borders[0, 0], border_weights(numbers[0, 0], 10.0, 5.0))
    assert borders.max() > 5, "objects touch in this well"
    other = build("spheroid-msan", border_sigma=2.0).task
    assert other.preparation.digest != task.preparation.digest
    apply_only = task.simulate(task.frame({"image": make("spheroids", 1, size=64).image}), 0)
    assert BORDERS not in apply_only.arrays and not task.roles[BORDERS].has_intensities


def test_masks_are_objects_by_their_connected_parts():
    task = build("spheroid-msan", instances=False, labels="mask", roles={"mask": {"part": "mask:spheroids"}}).task
    sample = sample_of(task, seed=1)
    assert sample.arrays["mask"].dtype == np.uint8 and np.asarray(sample.arrays[BORDERS]).max() > 0
    assert type(task).judge.endswith("SegmentationJudge")


def test_the_rarer_class_weighs_more_by_how_much_rarer_it_is_in_training(task):
    method = build("spheroid-msan")
    samples = [sample_of(task, seed) for seed in (2, 5)]
    share = np.mean([np.mean(np.asarray(sample.arrays["spheroids"]) > 0) for sample in samples])
    method.fitted.keep(task.fit(samples))
    assert float(method.fitted.numbers[INSIDE_SHARE]) == pytest.approx(share) and 0 < share < 0.5
    weights = method.pixel_weights(torch.tensor([0.0, 1.0]))
    assert weights.tolist() == pytest.approx([1.0, (1 - share) / share])
    method.fitted.keep({INSIDE_SHARE: np.float32(0.8)})
    assert method.pixel_weights(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([4.0, 1.0])
    assert build("spheroid-msan", balanced=False).pixel_weights(torch.ones(2)).tolist() == [1, 1]


def test_odd_patches_and_several_kinds_of_objects_are_refused():
    with pytest.raises(UserError, match="--patch 36: rows and columns must be multiples of 8"):
        build("spheroid-msan", patch=36).check_sizes()
    with pytest.raises(UserError, match="--regions: this system finds objects of one kind, not inside, edge"):
        build("spheroid-msan", regions={"inside": (1,), "edge": (2,)}, judged={"cell": (1, 2)})
