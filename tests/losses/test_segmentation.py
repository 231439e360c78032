import pytest
import torch
from torch.nn import functional

from ganatomy.losses import segmentation as losses

P = torch.tensor([0.2, 0.4, 0.6, 0.8]).reshape(1, 1, 2, 2)
Y = torch.tensor([0.0, 0.0, 1.0, 1.0]).reshape(1, 1, 2, 2)


def test_multi_scale_l1_by_stage_and_by_element():
    image = (torch.arange(4.0) / 10).reshape(1, 1, 2, 2)
    predicted, true = [image * P, torch.full((1, 2), 0.4)], [image * Y, torch.full((1, 2), 0.3)]
    assert losses.multi_scale_l1(predicted[:1], true[:1]).item() == pytest.approx(0.045)
    assert losses.multi_scale_l1(predicted, true).item() == pytest.approx(0.0725)
    assert losses.multi_scale_l1(predicted, true, "concat_mean", (1, 2)).item() == pytest.approx(0.0966667, abs=1e-7)
    assert losses.multi_scale_l1(predicted, true, multipliers=(3, 2)).item() == pytest.approx((3 * 0.045 + 2 * 0.1) / 2)


def test_concat_mean_is_one_mean_over_all_elements():
    predicted = [torch.randn(3, 2, 5, 7, dtype=torch.float64), torch.randn(3, 4, 2, 3, dtype=torch.float64)]
    true = [torch.randn_like(stage) for stage in predicted]
    vectors = [torch.cat([2 * a.flatten(1), 3 * b.flatten(1)], dim=1) for a, b in (predicted, true)]
    wanted = (vectors[0] - vectors[1]).abs().mean()
    torch.testing.assert_close(losses.multi_scale_l1(predicted, true, "concat_mean", (2, 3)), wanted)


@pytest.mark.parametrize("multipliers", [None, (1.0, 2.0, 3.0)])
def test_every_stage_needs_its_counterpart(multipliers):
    stages = [torch.zeros(1, 2), torch.zeros(1, 3)]
    with pytest.raises(ValueError):
        losses.multi_scale_l1(stages, stages[: 1 if multipliers is None else 2], multipliers=multipliers)


def test_soft_dice():
    assert losses.dice_loss(P, Y).item() == pytest.approx(0.125, abs=1e-6)
    assert losses.dice_loss(P, Y, squared=False).item() == pytest.approx(1 - 2.8 / 4, abs=1e-6)
    assert losses.dice_loss(P, Y, weights=(1.0,)).item() == pytest.approx(0.125, abs=1e-6)


def test_dice_sums_pixels_of_an_image_and_averages_over_images():
    # Of the second image everything is found; pooled with the first, the loss would be smaller than the mean.
    p, y = torch.cat([P, torch.ones_like(P)]), torch.cat([Y, torch.ones_like(Y)])
    assert losses.dice_loss(p, y).item() == pytest.approx(0.125 / 2, abs=1e-6)


def test_weighted_dice_is_a_plain_sum():
    weights = (1, 3, 1, 2, 1.5)
    # One pixel of two is found: p = (1, 0, 1), y = (1, 1, 0) has a Dice of one half.
    p, y = torch.tensor([1.0, 0.0, 1.0]).expand(2, 5, 1, 3), torch.tensor([1.0, 1.0, 0.0]).expand(2, 5, 1, 3)
    assert losses.dice_loss(p, y, weights).item() == pytest.approx(4.25, abs=1e-5)
    assert losses.dice_loss(p, y).item() == pytest.approx(0.5, abs=1e-6)
    p = p.clone()
    p[:, 1] = y[:, 1]
    assert losses.dice_loss(p, y, weights).item() == pytest.approx(4.25 - 1.5, abs=1e-5)
    with pytest.raises(ValueError, match="5 regions need as many weights, not 2"):
        losses.dice_loss(p, y, (1.0, 2.0))


def test_nothing_where_nothing_is_costs_nothing():
    nothing = torch.zeros(2, 1, 3, 4, requires_grad=True)
    loss = losses.dice_loss(nothing, torch.zeros(2, 1, 3, 4))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(nothing.grad).all()
    assert losses.dice_loss(torch.full((1, 1, 3, 4), 0.5), torch.zeros(1, 1, 3, 4)).item() == pytest.approx(1)


FUNCTIONS = {
    "dice": lambda x, y: losses.dice_loss(x.sigmoid(), y),
    "weighted": lambda x, y: losses.dice_loss(x.sigmoid(), y, (1, 3, 2)),
    "plain": lambda x, y: losses.dice_loss(x.sigmoid(), y, squared=False),
    "binary": losses.binary_cross_entropy,
    "classes": losses.cross_entropy,
}


def sample(*size):
    """Return logits, one-hot maps of three classes, and those maps with a third of the voxels unknown."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, *size), generator=generator)
    target = functional.one_hot(labels, 3).movedim(-1, 1).double()
    unknown = torch.rand(2, 1, *size, generator=generator) < 0.3
    return logits, target, target.masked_fill(unknown, -1)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("size", [(5, 7), (2, 5, 7)])
def test_the_unknown_neither_adds_nor_moves(name, size):
    logits, _, target = sample(*size)
    known = target >= 0
    logits.requires_grad_()
    loss = FUNCTIONS[name](logits, target)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[~known].any()
    assert (gradient[known] != 0).all()
    elsewhere = torch.where(known, logits, 9 * torch.randn_like(logits))
    torch.testing.assert_close(FUNCTIONS[name](elsewhere, target), loss)
    # As if the unknown columns had been cut off.
    target = target.clone()
    target[..., 4:] = -1
    torch.testing.assert_close(
        FUNCTIONS[name](logits, target), FUNCTIONS[name](logits[..., :4].contiguous(), target[..., :4].contiguous())
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_known_is_no_loss(name):
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    loss = FUNCTIONS[name](logits, torch.full((2, 3, 4, 5), -1.0))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_images_without_annotation_do_not_dilute(name):
    logits, target, _ = sample(5, 7)
    blank = torch.cat([target, torch.full_like(target, -1)])
    twice = torch.cat([logits, logits])
    torch.testing.assert_close(FUNCTIONS[name](twice, blank), FUNCTIONS[name](logits, target))


def test_a_region_that_nobody_drew_leaves_the_mean_over_regions():
    logits, target, _ = sample(5, 7)
    partial = target.clone()
    partial[:, 2] = -1
    p = logits.sigmoid()
    torch.testing.assert_close(losses.dice_loss(p, partial), losses.dice_loss(p[:, :2], target[:, :2]))
    partial[0, 1] = -1
    wanted = losses.dice_loss(p[:, :1], target[:, :1]) + losses.dice_loss(p[1:, 1:2], target[1:, 1:2])
    torch.testing.assert_close(losses.dice_loss(p, partial), wanted / 2)


@pytest.mark.parametrize("size", [(5, 7), (2, 5, 7)])
def test_cross_entropies_agree_with_torch(size):
    logits, target, partial = sample(*size)
    torch.testing.assert_close(losses.cross_entropy(logits, target), functional.cross_entropy(logits, target.argmax(1)))
    labels = torch.where(partial.amin(1) < 0, -100, target.argmax(1))
    torch.testing.assert_close(losses.cross_entropy(logits, partial), functional.cross_entropy(logits, labels))
    wanted = functional.binary_cross_entropy_with_logits(logits[partial >= 0], partial[partial >= 0])
    torch.testing.assert_close(losses.binary_cross_entropy(logits, partial), wanted)


def test_a_voxel_of_known_class_counts_whatever_the_other_channels_say():
    logits, target, _ = sample(5, 7)
    doubtful = torch.where(target == 1, target, torch.full_like(target, -1))
    torch.testing.assert_close(losses.cross_entropy(logits, doubtful), losses.cross_entropy(logits, target))


def test_dice_of_half_precision_is_summed_in_that_of_the_target():
    p, y = torch.full((1, 1, 64, 96), 0.3), torch.ones(1, 1, 64, 96)
    rounded = p.bfloat16()
    exact = losses.dice_loss(rounded.float(), y)
    assert losses.dice_loss(rounded, y).item() == exact.item()


def test_losses_of_an_atlas_have_known_values():
    found, true = (torch.tensor(values).reshape(1, 1, 4) for values in ([0.9, 0.6, 0.2, 0.1], [1.0, 1, 0, 0]))
    assert losses.dice_loss(found, true, squared=False, smooth=1e-5).item() == pytest.approx(0.210526, abs=1e-5)
    assert losses.volume_difference(found, true).item() == pytest.approx(0.1)
    assert losses.label_l1(found, true).item() == pytest.approx(0.2)
    unknown = torch.tensor([1.0, 1, 0, -1]).reshape(1, 1, 4)
    assert losses.label_l1(found, unknown).item() == pytest.approx(0.7 / 3)
    assert losses.volume_difference(found, unknown).item() == pytest.approx(0.15)
