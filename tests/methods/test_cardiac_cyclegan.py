"""Cardiac CycleGAN: image and mask are translated together, and both return through the cycle."""

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn
from torch.nn.functional import binary_cross_entropy, l1_loss

from ganatomy.data.cases import DataConfig
from ganatomy.game import moves
from ganatomy.inference.model import load
from ganatomy.losses.segmentation import dice_loss
from ganatomy.methods.synthesis.cardiac_cyclegan import CardiacCycleGAN, entropy, holds
from ganatomy.nets.transposed_unet import TransposedUNet
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SIZE = (16, 24)


def system(**values):
    return build("cardiac-cyclegan", **{"size": SIZE, "width": 4, "discriminator_width": 4, "pool": 0, **values})


def batch_of(seed=1):
    draw = torch.Generator().manual_seed(seed)

    def pair(image, mask):
        made = 2 * torch.rand(2, 1, *SIZE, generator=draw) - 1
        return {image: made, mask: torch.rand(2, 1, *SIZE, generator=draw).round()}

    return {"source": pair("ct", "ct_myocardium"), "target": pair("mr", "mr_myocardium")}


def zeroed(method, image, mask, score):
    """Let both generators make a constant image and a constant probability, and all discriminators one score."""
    for generator in (method.to_target, method.to_source):
        last = generator[0][-2]
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([np.arctanh(image), np.log(mask / (1 - mask))]))
    for discriminator in (method.discriminator_source, method.discriminator_target):
        nn.init.zeros_(discriminator[-1].weight)
        nn.init.constant_(discriminator[-1].bias, score)
    return method


def test_networks_have_the_numbers_of_parameters_of_two_channels():
    with torch.device("meta"):
        method = CardiacCycleGAN(CardiacCycleGAN.Config.preset())
        assert count(method.to_target) == count(method.to_source) == 11_371_906
        # The count of the catalogue has biases before instance norms, too, which have no effect.
        assert count(method.discriminator_target) == 2_763_713 - (128 + 256 + 512)
        seen = []
        for layer in method.to_target[0]:
            layer.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
        assert method.to_target(torch.empty(1, 2, 232, 232)).shape == (1, 2, 232, 232)
        sizes = [(64, 232, 232), (128, 116, 116), (256, 58, 58), (2, 232, 232)]
        assert list(dict.fromkeys(seen)) == sizes
        assert method.discriminator_target(torch.empty(1, 2, 232, 232)).shape == (1, 1, 27, 27)
        # A network to segment the synthetic images with.
        assert count(TransposedUNet(1, 1, (32, 64, 128, 256), "batch", biased=False, dims=2)) == 1_926_433


def test_images_end_in_a_tanh_and_masks_in_a_sigmoid():
    method = system()
    given = torch.cat([batch_of()["source"][name] for name in method.inputs], 1)
    raw = method.to_target[0](given)
    made = method.restore(given)
    torch.testing.assert_close(made, torch.cat([raw[:, :1].tanh(), raw[:, 1:].sigmoid()], 1))
    assert method.outputs == ("mr", "mr_myocardium") and method.inputs == ("ct", "ct_myocardium")


def test_losses_have_the_values_of_the_formula():
    method = zeroed(system(mask_loss="entropy", cycle_weight=10.0, adversarial_weight=1.0), 0.1, 0.9, 0.5)
    ones, zeros = torch.ones(2, 1, *SIZE), torch.zeros(2, 1, *SIZE)
    batch = {"source": {"ct": zeros, "ct_myocardium": ones}, "target": {"mr": zeros, "mr_myocardium": ones}}
    (generators,), judged = moves(method.turns(iter([batch])))
    assert generators.total.item() == pytest.approx(0.5 + 2 + 10 * 2 * 0.10536, abs=1e-4)
    assert generators.total.item() == pytest.approx(4.6072, abs=1e-4)
    assert [turn.total.item() for turn in judged] == pytest.approx([0.25, 0.25])
    guarded = zeroed(system(guard_weight=1.0, cycle_weight=10.0, adversarial_weight=1.0), 0.1, 0.9, 0.5)
    (generators,), _ = moves(guarded.turns(iter([batch])))
    assert generators.losses["guard source"].item() == pytest.approx(0.10536, abs=1e-4)


def test_terms_of_images_and_of_masks_are_apart_and_weighed_alike():
    method, batch = system(cycle_weight=10.0), batch_of()
    (generators,), _ = moves(method.turns(iter([batch])))
    given = torch.cat([batch["source"][name] for name in method.inputs], 1)
    back = method.to_source(method.to_target(given))
    torch.testing.assert_close(generators.losses["cycle source"], 10 * l1_loss(back[:, :1], given[:, :1]))
    wanted = 10 * binary_cross_entropy(back[:, 1:], given[:, 1:])
    torch.testing.assert_close(generators.losses["cycle source mask"], wanted)
    assert not any(name.startswith(("guard", "identity")) for name in generators.losses)
    other = system(mask_loss="l1", cycle_weight=10.0)
    (generators,), _ = moves(other.turns(iter([batch])))
    torch.testing.assert_close(generators.losses["cycle source mask"], 10 * l1_loss(back[:, 1:], given[:, 1:]))


def test_discriminators_and_pools_hold_pairs_of_image_and_mask():
    method, seen = system(pool=3), []
    method.discriminator_target.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    list(method.turns(iter([batch_of()])))
    assert set(seen) == {(2, 2, *SIZE)}
    assert method.pool_target.images.shape == (3, 2, *SIZE) and int(method.pool_target.filled) == 2


def test_masks_stay_from_zero_to_one():
    roles = system().task.roles
    tensor = roles["ct_myocardium"].encoded(np.array([0, 1])[None, None, None])
    assert tensor.ravel().tolist() == [0, 1]
    assert roles["ct"].encoded(np.array([-200.0, 600.0])[None, None, None]).ravel().tolist() == [-1, 1]
    method = system(jitter=4)
    given = torch.cat([batch_of()["source"][name] for name in method.inputs], 1)
    (enlarged,) = method.jittered(given)
    assert enlarged.shape == given.shape and 0 <= enlarged[:, 1].min() <= enlarged[:, 1].max() <= 1


def test_slices_without_myocardium_are_drawn_again():
    source, target = system().streams(2)
    empty = {"ct_myocardium": np.zeros((1, 1, 4, 4)), "mr_myocardium": np.zeros((1, 1, 4, 4))}
    full = {name: values + 1 for name, values in empty.items()}
    for stream in (source, target):
        assert stream.accepts(full) and not stream.accepts(empty)
    assert (source.roles, target.roles) == (("ct", "ct_myocardium"), ("mr", "mr_myocardium"))
    assert holds("a", {"a": np.ones(1)})


def test_cross_entropy_is_of_probabilities():
    assert entropy(torch.tensor([0.9]), torch.tensor([1.0])).item() == pytest.approx(0.10536, abs=1e-5)


def test_soft_dice_of_a_segmenter_has_the_value_of_the_formula():
    found, true = torch.tensor([0.8, 0.4, 0.2, 0.1]), torch.tensor([1.0, 1.0, 0.0, 0.0])
    loss = dice_loss(found.reshape(1, 1, 2, 2), true.reshape(1, 1, 2, 2), squared=False)
    assert loss.item() == pytest.approx(0.3143, abs=1e-3)


def test_the_baseline_is_the_same_networks_with_the_cycle_alone():
    method = system(**CardiacCycleGAN.Config.baseline)
    (turn,) = method.turns(iter([batch_of()]))
    assert list(turn.losses) == [f"cycle {kind}" for kind in ("source", "source mask", "target", "target mask")]


def test_a_run_makes_an_mr_image_with_its_mask_on_the_grid_of_ct(cases, tmp_path):
    config = configured("cardiac-cyclegan", width=4, discriminator_width=4)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    data = DataConfig(phantom_subjects=6, phantom_size=48, cache=cases)
    train("cardiac-cyclegan", tmp_path / "run", config, data, options)
    phantom = make("chest-mr-ct", 77, size=48, slices=3, enhancement=300.0)
    ct = phantom.images["ct"]
    mask = ct.with_array(phantom.masks["ct_myocardium"][None].astype(np.uint8))
    found = load(tmp_path / "run")(ct=ct, ct_myocardium=mask).outputs
    assert list(found) == ["mr", "mr_myocardium"] and all(one.shape == ct.shape for one in found.values())
    assert set(np.unique(found["mr_myocardium"].numpy())) <= {0, 1}
