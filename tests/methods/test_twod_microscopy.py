"""Two-discriminator GAN: networks of pix2pix, two games, masks that are given or computed, and the ablations."""

import math

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.inference.model import load
from ganatomy.methods.synthesis.twod_microscopy import MASK, TwoDiscriminatorGAN
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SIZE = (32, 64)


def gan(**values):
    return build("twod-microscopy", **{"size": SIZE, "width": 4, "discriminator_width": 4, **values})


def batch_of(seed=1, mask=MASK):
    draw = torch.Generator().manual_seed(seed)
    cells = torch.zeros(2, 1, *SIZE)
    cells[0, :, 8:20, 12:30] = 1
    given, made = (2 * torch.rand(2, 1, *SIZE, generator=draw) - 1 for _ in range(2))
    return {"dic": given, mask: cells, "phase_contrast": made}


def paper(**values):
    with torch.device("meta"):
        return TwoDiscriminatorGAN(TwoDiscriminatorGAN.Config.preset("paper", **values))


def terms(method):
    return {turn.player: list(turn.losses) for turn in method.turns(iter([batch_of()]))}


def test_networks_have_the_numbers_of_parameters_of_pix2pix():
    method = paper()
    assert count(method.generator) == 54_408_833
    assert count(method.discriminator) == count(method.mask_discriminator) == 2_764_609
    convolutions = [one for one in method.generator.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)]
    assert [one.bias is not None for one in convolutions] == [False] * (len(convolutions) - 1) + [True]
    with torch.device("meta"):
        assert method.mask_discriminator(torch.empty(1, 2, 256, 256)).shape == (1, 1, 30, 30)
        assert method.generator(torch.empty(1, 2, 256, 256)).shape == (1, 1, 256, 256)


def test_levels_of_the_generator():
    method, found = paper(), []
    for level in method.generator.down:
        level.register_forward_hook(lambda module, inputs, output: found.append(tuple(output.shape[1:3])))
    with torch.device("meta"):
        method.generator(torch.empty(1, 2, 256, 256))
    assert found == [(64, 128), (128, 64), (256, 32), (512, 16), (512, 8), (512, 4), (512, 2), (512, 1)]
    dropouts = [any(isinstance(layer, nn.Dropout) for layer in level) for level in method.generator.up]
    assert dropouts == [True] * 3 + [False] * 5
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in method.generator.down[-1].modules())


def test_scores_see_70_pixels():
    field = 1
    for layer in reversed([one for one in paper().mask_discriminator if isinstance(one, nn.Conv2d)]):
        field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
    assert field == 70


def test_losses_where_all_logits_are_zero():
    method, batch = gan(), batch_of()
    for network in (method.discriminator, method.mask_discriminator):
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
    fake = method.translated(batch["dic"], batch[MASK]).detach()
    batch["phase_contrast"] = fake + 0.1
    first, second, generator = method.turns(iter([batch]))
    assert [first.player, second.player, generator.player] == ["discriminator", "mask discriminator", "generator"]
    assert first.total.item() == pytest.approx(math.log(2), abs=1e-6)
    assert second.total.item() == pytest.approx(math.log(2), abs=1e-6)
    assert generator.total.item() == pytest.approx(1.386294 + 100 * 0.1, abs=1e-4)


def test_each_discriminator_sees_its_pairs_and_both_the_same_image():
    method, batch, seen = gan(), batch_of(), {"image": [], "mask": []}
    for name, network in (("image", method.discriminator), ("mask", method.mask_discriminator)):
        network.register_forward_hook(
            lambda module, inputs, output, name=name: seen[name].append(inputs[0].detach().clone())
        )
    list(method.turns(iter([batch])))
    (real, fake, judged), (mask_real, mask_fake, mask_judged) = seen["image"], seen["mask"]
    assert all(torch.equal(one[:, :1], batch["dic"]) for one in (real, fake, judged))
    assert all(torch.equal(one[:, :1], 2 * batch[MASK] - 1) for one in (mask_real, mask_fake, mask_judged))
    assert torch.equal(real[:, 1:], batch["phase_contrast"]) and torch.equal(mask_real[:, 1:], batch["phase_contrast"])
    assert torch.equal(fake[:, 1:], mask_fake[:, 1:]) and torch.equal(judged, fake)


def test_players_have_optimisers_of_their_own_and_a_constant_rate():
    (stage,) = paper().stages()
    assert [(one.name, one.adversary) for one in stage.players] == [
        ("discriminator", True),
        ("mask discriminator", True),
        ("generator", False),
    ]
    assert all(player.schedule is None for player in stage.players)
    assert stage.rounds == 80_000 and stage.stream.batch_size == 1 and stage.stream.flips == ()


def test_the_source_may_be_the_real_image_beside_the_mask():
    method, batch, seen = gan(mask_real="source"), batch_of(), []
    method.mask_discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    list(method.turns(iter([batch])))
    assert torch.equal(seen[0][:, 1:], batch["dic"]) and not torch.equal(seen[1][:, 1:], batch["dic"])
    with pytest.raises(UserError, match="--mask-real source"):
        gan(mask_real="source", roles={"dic": {"channels": 3}})


def test_the_product_hides_what_lies_outside_of_cells():
    method, batch = gan(mask_joined="product"), batch_of()
    joined = method.within(batch[MASK], batch["phase_contrast"])
    assert joined.shape[1] == 1 and count(method.mask_discriminator) < count(method.discriminator)
    inside = batch[MASK] > 0
    assert torch.equal(joined[inside], batch["phase_contrast"][inside]) and not joined[~inside].any()
    assert terms(method)["mask discriminator"] == ["adversarial"]


def test_ablations_leave_out_a_game_or_the_mask():
    pix2pix = gan(mask_adversarial_weight=0.0, mask_seen=False)
    assert terms(pix2pix) == {"discriminator": ["adversarial"], "generator": ["l1", "adversarial"]}
    batch = batch_of()
    assert torch.equal(
        pix2pix.translated(batch["dic"], batch[MASK]), pix2pix.translated(batch["dic"], torch.zeros_like(batch[MASK]))
    )
    seen = gan(mask_adversarial_weight=0.0)
    assert terms(seen) == terms(pix2pix)
    assert not torch.equal(
        seen.translated(batch["dic"], batch[MASK]), seen.translated(batch["dic"], torch.zeros_like(batch[MASK]))
    )
    alone = gan(adversarial_weight=0.0)
    assert alone.adversarial and list(terms(alone)) == ["mask discriminator", "generator"]
    base = gan(**TwoDiscriminatorGAN.Config.baseline)
    assert not base.adversarial and terms(base) == {"generator": ["l1"]}
    assert count(base.generator) == count(gan().generator)


def test_source_mask_and_target_are_enlarged_and_cut_alike():
    method, batch, seen = gan(jitter=8), batch_of(), []
    batch["dic"] = batch["phase_contrast"] = 2 * batch[MASK] - 1
    method.mask_discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    list(method.turns(iter([batch])))
    mask, image = seen[0][:, :1], seen[0][:, 1:]
    assert set(mask.unique().tolist()) == {-1.0, 1.0} and not torch.equal(mask, 2 * batch[MASK] - 1)
    assert torch.equal(mask > 0, image > 0)


def overlap(found, true):
    return 2 * (found & true).sum() / (found.sum() + true.sum())


@pytest.mark.parametrize(("source", "least"), (("dic", 0.7), ("phase_contrast", 0.85)))
def test_computed_masks_are_those_of_the_cells(source, least):
    other = "dic" if source == "phase_contrast" else "phase_contrast"
    method = gan(source=source, target=other)
    phantoms = [make("live-cells", seed, size=128) for seed in range(4)]
    samples = [method.task.frame({name: one.images[name] for name in (source, other)}) for one in phantoms]
    method.fit(samples)
    assert float(method.threshold) > 0
    found = []
    for sample, phantom in zip(samples, phantoms, strict=True):
        given = sample.role(source).encoded(np.asarray(sample.arrays[source]))[:, 0]
        mask = method.cells(torch.from_numpy(given)[None])[0, 0].bool().numpy()
        found.append(overlap(mask, phantom.masks["cells"][0]))
    assert np.mean(found) > least
    # The wrong microscope finds others.
    wrong = gan(source=source, target=other, optics="dic" if source != "dic" else "phase-contrast")
    assert not np.allclose(
        wrong.restored(torch.from_numpy(given)[None]), method.restored(torch.from_numpy(given)[None])
    )


def test_the_threshold_is_saved_with_the_weights():
    assert "threshold" in gan().state_dict()


def test_given_masks_are_an_input_and_none_is_computed():
    method = gan(labels="cells")
    assert method.inputs == ("dic", "cells") and not method.stages()[0].derive
    method.cells = None
    batch = batch_of(mask="cells")
    list(method.turns(iter([batch])))
    shown = torch.cat([batch["dic"], batch["cells"]], 1)
    torch.testing.assert_close(method.restore(shown), method.translated(batch["dic"], batch["cells"]))
    assert MASK in gan().stages()[0].derive


def test_dropout_stays_on_at_inference_only_if_asked():
    batch = batch_of()
    for wanted in (False, True):
        method = gan(dropout=0.5, dropout_at_inference=wanted, labels="cells").inference_mode()
        given = torch.cat([batch["dic"], batch[MASK]], 1)
        assert torch.equal(method.restore(given), method.restore(given)) != wanted


def test_sizes_that_the_generator_cannot_halve_are_refused():
    with pytest.raises(UserError, match="multiples of 32"):
        gan(size=(40, 64)).check_sizes()


@pytest.mark.parametrize("labels", (None, "cells"))
def test_a_run_is_applied_to_a_frame_larger_than_its_patches(cases, tmp_path, labels):
    config = configured("twod-microscopy", size=(32, 32), width=4, discriminator_width=4, labels=labels)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    data = DataConfig(phantom_subjects=4, phantom_size=64, cache=cases)
    train("twod-microscopy", tmp_path / "run", config, data, options)
    phantom, model = make("live-cells", 50, size=100), load(tmp_path / "run")
    assert (float(model.method.threshold) > 0) == (labels is None)
    given = {"dic": phantom.images["dic"]}
    if labels:
        given["cells"] = given["dic"].with_array(phantom.masks["cells"][None].astype(np.uint8))
    made = model(**given).outputs["phase_contrast"]
    assert made.shape == (1, 100, 100) and np.isfinite(made.numpy()).all()
    np.testing.assert_allclose(made.affine, phantom.image.affine)
