"""Virtual H&E: networks for 64 pixels, principal components that are kept with the weights, and Hann windows."""

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.inference.model import load
from ganatomy.inference.tiling import Tiler
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.methods.synthesis.virtual_he import VirtualHE
from ganatomy.phantoms import make
from ganatomy.physics import hyperspectral as hs
from ganatomy.training.run import TrainConfig, train


def system(**values):
    return build("virtual-he", **{"size": (32, 64), "width": 4, "discriminator_width": 4, **values})


def batch_of(seed=1):
    draw = torch.Generator().manual_seed(seed)
    return {
        "hyperspectral": 2 * torch.rand(2, 31, 32, 64, generator=draw) - 1,
        "stained": 2 * torch.rand(2, 3, 32, 64, generator=draw) - 1,
    }


def paper(**values):
    with torch.device("meta"):
        return VirtualHE(VirtualHE.Config.preset("paper", **values))


def fitted(**values):
    method = system(**values)
    phantoms = [make("unstained-tissue", seed, size=64) for seed in range(3)]
    samples = [method.task.frame(one.images) for one in phantoms]
    method.fit(samples)
    return method, samples


def test_networks_have_the_published_numbers_of_parameters():
    method = paper()
    assert (count(method.generator), count(method.discriminator)) == (29_244_035, 2_768_705)
    assert count(paper(discriminator_strided=1).discriminator) == 139_585
    with torch.device("meta"):
        pair = torch.empty(1, 6, 64, 64)
        assert method.discriminator(pair).shape == (1, 1, 6, 6)
        assert paper(discriminator_strided=1).discriminator(pair).shape == (1, 1, 30, 30)
    maps = []
    for level in method.generator.down:
        level.register_forward_hook(lambda module, inputs, output: maps.append(tuple(output.shape[1:3])))
    with torch.device("meta"):
        method.generator(torch.empty(1, 3, 64, 64))
    assert maps == [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2), (512, 1)]
    assert not any(isinstance(one, nn.InstanceNorm2d | nn.BatchNorm2d) for one in method.generator.down[-1].modules())


@pytest.mark.parametrize(("strided", "pixels"), ((3, 70), (2, 34), (1, 16)))
def test_pixels_that_a_score_sees(strided, pixels):
    field = 1
    layers = [one for one in system(discriminator_strided=strided).discriminator if isinstance(one, nn.Conv2d)]
    for layer in reversed(layers):
        field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
    assert field == pixels


def test_losses_of_the_game():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-0.5, 1.0])
    assert nonsaturating_discriminator(real, fake).item() == pytest.approx(1.613764, abs=1e-6)
    assert nonsaturating_generator(fake).item() == pytest.approx(0.643669, abs=1e-6)
    method = system()
    for parameter in method.discriminator.parameters():
        nn.init.zeros_(parameter)
    discriminator, generator = method.turns(iter([batch_of()]))
    assert discriminator.total.item() == pytest.approx(np.log(2), abs=1e-6)
    assert generator.losses["adversarial"].item() == pytest.approx(np.log(2), abs=1e-6)


@pytest.mark.parametrize(("deviations", "wanted"), ((3, 1), (-3, -1), (0, 0), (-1.5, -0.5), (4, 1)))
def test_scores_at_three_standard_deviations_are_the_ends_of_the_range(deviations, wanted):
    method = system(components=1)
    method.mean.fill_(0.7)
    method.spread.fill_(0.1)
    method.axes.zero_()
    method.axes[0, 4] = 1
    method.deviations.fill_(2.0)
    share = 10 ** -(0.7 + 0.1 * 2.0 * deviations)
    seen = method.seen(torch.full((1, 31, 2, 2), 2 * share - 1))
    torch.testing.assert_close(seen, torch.full_like(seen, wanted), atol=1e-4, rtol=0)


def test_components_are_those_of_the_training_spectra():
    method, samples = fitted()
    spectra = np.concatenate([np.asarray(one.arrays["hyperspectral"]).reshape(31, -1) for one in samples], axis=1)
    mean, spread, axes, deviations = hs.principal_components(-np.log10(np.maximum(spectra, hs.LEAST)), 3)
    for buffer, wanted in zip(
        (method.mean, method.spread, method.axes, method.deviations), (mean, spread, axes, deviations), strict=True
    ):
        np.testing.assert_allclose(buffer.numpy(), wanted, rtol=1e-3, atol=1e-4)
    assert {"mean", "spread", "axes", "deviations"} <= set(method.state_dict())
    given = samples[0].role("hyperspectral").encoded(np.asarray(samples[0].arrays["hyperspectral"]))[None, :, 0]
    seen = method.seen(torch.from_numpy(given))
    assert seen.shape == (1, 3, 64, 64) and seen.min() >= -1 and seen.max() <= 1 and seen.std() > 0.1


def test_networks_see_components_alone():
    method, shown = system(), []
    method.discriminator.register_forward_hook(lambda module, inputs, output: shown.append(inputs[0].detach()))
    batch = batch_of()
    list(method.turns(iter([batch])))
    assert all(torch.equal(one[:, :3], method.seen(batch["hyperspectral"])) for one in shown)
    assert torch.equal(shown[0][:, 3:], batch["stained"])
    torch.testing.assert_close(method.restore(batch["hyperspectral"]), shown[1][:, 3:])


def test_more_components_than_bands_are_refused():
    with pytest.raises(UserError, match="--components 40"):
        system(components=40)


def test_windows_of_half_covered_tiles_add_up_to_one():
    tiling = paper().tiling
    weights = Tiler(lambda block: block, 2, tiling)._weights(64)
    np.testing.assert_allclose(weights[:32] + weights[32:], 1, atol=1e-6)
    assert weights.min() == pytest.approx(6.0e-4, abs=5e-6)
    assert tiling.tile == (1, 64, 64) and tiling.overlap == 0.5


def test_pairs_are_mirrored_and_turned_alike():
    (stage,) = paper().stages()
    assert stage.stream.flips == (1, 2) and stage.stream.quarter_turns
    assert all(player.schedule is None for player in stage.players)


def test_the_baseline_is_the_same_network_with_the_l1_loss():
    base = system(**VirtualHE.Config.baseline)
    assert base.discriminator is None and count(base.generator) == count(system().generator)
    assert [list(turn.losses) for turn in base.turns(iter([batch_of()]))] == [["l1"]]


def test_a_run_stains_arrays_of_numpy_with_a_channel_for_each_band(cases, tmp_path):
    config = configured("virtual-he", size=(32, 32), width=4, discriminator_width=4)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    data = DataConfig(phantom_subjects=4, phantom_size=64, cache=cases)
    train("virtual-he", tmp_path / "run", config, data, options)
    model = load(tmp_path / "run")
    assert float(model.method.deviations[0]) > float(model.method.deviations[1]) > 0
    np.save(tmp_path / "cube.npy", make("unstained-tissue", 50, size=72).images["hyperspectral"].numpy())
    made = model(tmp_path / "cube.npy").outputs["stained"]
    assert made.channels == 3 and made.shape == (1, 72, 72) and np.isfinite(made.numpy()).all()
    np.save(tmp_path / "few.npy", np.full((5, 1, 40, 40), 0.5, np.float32))
    with pytest.raises(UserError, match=r"few\.npy.*5 channels, but the system works with 31"):
        model(tmp_path / "few.npy")
