import numpy as np
import pytest
import torch

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.inference.model import Model
from ganatomy.methods.reconstruction.dagan import DAGAN
from ganatomy.methods.reconstruction.gancs import GANCS
from ganatomy.metrics.reconstruction import nmse
from ganatomy.physics.coils import Encoding, simulated_sensitivities
from ganatomy.physics.fourier import as_channels, fft, ifft
from ganatomy.physics.sampling import Undersampling
from ganatomy.tasks.mr_reconstruction.task import (
    BEST,
    EDGES,
    NMSE,
    PSNR,
    MRReconstruction,
    ReconstructionConfig,
    Scan,
    complete,
)

SCAN = Undersampling(fraction=0.4)


def task(phased=True, **values):
    return MRReconstruction(ReconstructionConfig(**{"size": (32, 32), "scan": SCAN, **values}), phased)


def image(rows=32, columns=32, slices=3, modality="MR", unit="a.u.", channels=1):
    values = np.random.default_rng(0).uniform(0, 800, (channels, slices, rows, columns)).astype(np.float32)
    return Image.from_array(values, (3.0, 0.9, 0.7), unit, Header(modality=modality))


def tensor(prepared, role):
    return torch.from_numpy(prepared[role].numpy()).transpose(0, 1)


def test_a_prepared_case_is_a_scan_of_its_target():
    given = image()
    prepared = task().prepare({"target": given}, 0)
    assert list(prepared) == ["input", "target", "phase"] and prepared["input"].channels == 3
    target = prepared["target"].numpy()
    np.testing.assert_allclose(target, given.numpy() / given.numpy().max(), rtol=1e-6)
    scan = Scan.of(tensor(prepared, "input"))
    shown, mask = scan.image, scan.mask
    assert torch.equal(mask[0, 0], SCAN.mask((32, 32))) and mask.float().mean() == pytest.approx(0.4, abs=0.02)
    measured = fft(tensor(prepared, "target")) * mask
    torch.testing.assert_close(fft(shown), measured, atol=1e-5, rtol=0)


def test_slices_prepared_alone_are_the_same():
    prepared = task(phase=1.0, scan=Undersampling(redrawn=True, noise=1e-3)).prepare({"target": image()}, 5)
    assert list(prepared) == ["input", "target", "phase"]
    for part in prepared.values():
        whole = part.numpy()
        assert np.array_equal(part.slab(1, 2), whole[:, 1:2])
    masks = prepared["input"].numpy()[2]
    assert not np.array_equal(masks[0], masks[1]), "a mask for every slice was asked for"


def test_the_phase_is_part_of_what_was_measured():
    prepared = task(phase=1.0).prepare({"target": image()}, 0)
    true = complete({role: tensor(prepared, role) for role in prepared})
    torch.testing.assert_close(true.abs(), tensor(prepared, "target"))
    scan = Scan.of(tensor(prepared, "input"))
    shown, mask = scan.image, scan.mask
    torch.testing.assert_close(fft(shown), fft(true) * mask, atol=1e-5, rtol=0)
    assert true.angle().std() > 0.3


def test_images_of_another_size_are_framed_where_they_are():
    prepared = task().prepare({"target": image(64, 48)}, 0)
    assert prepared["input"].shape == prepared["target"].shape == (3, 32, 32)
    assert prepared["target"].spacing == pytest.approx((3.0, 1.8, 1.4))
    assert not prepared["target"].numpy()[..., :4].any(), "what is beside a contained image is filled with 0"


def test_a_percentile_becomes_one():
    given = image()
    (target,) = task(percentile=50.0).prepare({"target": given}, 0)["target"].numpy()
    assert np.median(target) == pytest.approx(1, rel=1e-3)


def test_a_mask_is_framed_with_its_image():
    given = image(64, 48)
    mask = given.with_array(255 * (given.numpy() > 400).astype(np.uint8))
    prepared = task().prepare({"target": given, "mask": mask}, 0)
    framed = prepared["mask"].numpy()
    assert framed.shape == (1, 3, 32, 32) and framed.max() <= 1
    assert framed.mean() == pytest.approx(0.5 * 0.75, abs=0.02)
    with pytest.raises(UserError, match="a mask of"):
        task().prepare({"target": given, "mask": image(32, 32)}, 0)


def test_slices_without_content_are_not_trained_on():
    target = np.zeros((1, 3, 10, 10), np.float32)
    target[0, 1, 0, 0], target[0, 2, :2] = 1, 1
    assert task().trainable(None, {"target": target}).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"target": image(modality="CT")}, "modality CT"),
        ({"target": image(channels=3)}, "3 channels"),
        ({"target": image(), "input": image()}, "input is simulated"),
        ({"target": Image.from_array(-image().numpy())}, "no value above 0"),
    ],
)
def test_images_that_do_not_fit_are_refused(given, told):
    with pytest.raises(UserError, match=told):
        task().prepare(given, 0)


@pytest.mark.parametrize(
    ("asked", "shown", "told"),
    [
        (task(), image(), "the real and the imaginary part"),
        (task(), image(40, 40, channels=2), "this run's scan measures"),
        (task(scan=Undersampling(redrawn=True)), image(channels=2), "which samples were measured is not known"),
        (task(phased=False), image(channels=3), "3 channels"),
    ],
)
def test_scans_whose_measurement_is_not_known_are_refused(asked, shown, told):
    with pytest.raises(UserError, match=told):
        asked.check(shown)


def test_a_magnitude_goes_through_and_back_to_its_unit():
    method = DAGAN(DAGAN.Config.preset("small", size=(32, 32))).inference_mode()
    method.generator.head.weight.data.zero_()
    method.generator.head.bias.data.zero_()
    given = image()
    found = Model(method)(given)
    assert found.unit == "a.u." and found.channels == 1
    np.testing.assert_allclose(found.numpy(), given.numpy(), atol=0.5)
    framed = Model(method)(image(64, 48))
    assert framed.shape == (3, 64, 48)


def test_a_complex_scan_keeps_what_was_measured():
    method = GANCS(GANCS.Config.preset("small", size=(32, 32))).inference_mode()
    true = torch.from_numpy(image().numpy()).transpose(0, 1)
    mask = method.task.scan.mask((32, 32))
    parts = as_channels(ifft(fft(true) * mask)).transpose(0, 1).numpy()
    found = []
    method.restore = lambda shown: found.append(shown) or shown[:, :1]
    restored = Model(method)(Image.from_array(parts, (3.0, 1.0, 1.0), "a.u."))
    np.testing.assert_allclose(restored.numpy()[0], parts[0], atol=1e-2)
    assert torch.equal(Scan.of(found[0]).mask[0, 0], mask)


@pytest.mark.parametrize("coils", [None, 3])
def test_packing_a_scan_is_undone(coils):
    shown, mask = torch.randn(2, 1, 6, 5, dtype=torch.complex64), torch.rand(2, 1, 6, 5) < 0.5
    maps = coils and torch.randn(2, coils, 6, 5, dtype=torch.complex64)
    again = Scan.of(Scan(shown, Encoding(mask, maps)).packed)
    assert torch.equal(again.image, shown) and torch.equal(again.mask, mask)
    assert torch.equal(again.encoding.sensitivities, maps) if coils else again.encoding.sensitivities is None


def smooth(rows=32, columns=32, slices=2):
    """Complex images with an empty border, bright and with a phase, (slices, 1, rows, columns)."""
    y, x = (np.linspace(-1, 1, extent) for extent in (rows, columns))
    inside = (y[:, None] ** 2 + x**2 < 0.7) * (2 + np.cos(9 * y[:, None]) * np.sin(7 * x))
    planes = [300 * inside * np.exp(1j * (n + y[:, None])) for n in range(slices)]
    return torch.from_numpy(np.stack(planes)[:, None].astype(np.complex64))


def raw(coils=4, measured=1.0, **kind):
    """Raw data of several coils as an image."""
    maps = simulated_sensitivities(coils, (32, 32), 1) if coils > 1 else torch.ones(1, 1, 1, 1)
    kspace = fft(smooth() * maps) * (SCAN.mask((32, 32)) if measured < 1 else 1)
    return Image.from_array(as_channels(kspace).transpose(0, 1).numpy(), (3.0, 1.0, 1.0), "a.u.", Header("kspace"))


@pytest.mark.parametrize("sensitivities", ["estimated", "known"])
def test_several_coils_are_combined_and_kept_to(sensitivities):
    prepared = task(coils=4, phase=1.0, sensitivities=sensitivities).prepare({"target": magnitudes()}, 0)
    assert prepared["input"].channels == 11
    scan = Scan.of(tensor(prepared, "input"))
    true = complete({role: tensor(prepared, role) for role in prepared})
    inside = tensor(prepared, "target") > 0.1
    error = (scan.keep(true) - true).abs()[inside].mean() / true.abs()[inside].mean()
    assert error < (1e-4 if sensitivities == "known" else 0.06)
    (shown,) = prepared["target"].numpy()
    np.testing.assert_allclose(shown, magnitudes().numpy()[0] / magnitudes().numpy().max(), atol=2e-5)


def magnitudes():
    return Image.from_array(smooth().abs().transpose(0, 1).numpy(), (3.0, 1.0, 1.0), "a.u.", Header(modality="MR"))


@pytest.mark.parametrize("coils", [1, 4])
def test_complete_raw_data_are_learned_from_as_they_were_measured(coils):
    prepared = task(coils=coils).prepare({"target": raw()}, 0)
    scan, true = Scan.of(tensor(prepared, "input")), complete({role: tensor(prepared, role) for role in prepared})
    shown = true.abs() / true.abs().max()
    torch.testing.assert_close(shown, (smooth() / smooth().abs().max()).abs(), atol=0.03, rtol=0)
    assert true.abs().max() == pytest.approx(1, abs=0.02) and scan.mask.float().mean() < 0.5
    assert (scan.encoding.sensitivities is None) == (coils == 1)
    inside = shown > 0.1
    assert (scan.keep(true) - true).abs()[inside].mean() < 0.06


def test_raw_data_are_received_with_their_own_mask_and_coils():
    method = GANCS(GANCS.Config.preset("small", size=(32, 32), scan=Undersampling(redrawn=True)))
    asked, given = method.task, raw(measured=0.4)
    scan = Scan.of(torch.from_numpy(asked.received(given).numpy()).transpose(0, 1))
    assert torch.equal(scan.mask[0, 0], SCAN.mask((32, 32))) and scan.encoding.sensitivities.shape[1] == 4
    found = []
    method.restore = lambda shown: found.append(shown) or Scan.of(shown).image.abs()
    made = Model(method.inference_mode())(given)
    assert made.channels == 1 and made.unit == "a.u." and made.shape == (2, 32, 32)
    np.testing.assert_allclose(made.numpy()[0], scan.image.abs()[:, 0].numpy(), rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(torch.cat(found)[:, 2:], scan.packed[:, 2:])
    received = asked.received(given)
    assert asked.visible(received).channels == 1 and asked.received(received) is received


@pytest.mark.parametrize(
    ("asked", "given", "told"),
    [
        (task(coils=2), raw(), "4 coils; train with --coils 4"),
        (task(), raw(measured=0.4), "41% of k-space is measured"),
        (task(size=(32, 48)), raw(), "train with --size 32 32"),
    ],
)
def test_raw_data_that_cannot_be_learned_from_are_refused(asked, given, told):
    with pytest.raises(UserError, match=told):
        prepared = asked.prepare({"target": given}, 0)
        prepared["input"].slab(0, 1)


def test_scanning_again_gives_what_was_prepared_and_fresh_noise():
    prepared = task(phase=1.0).prepare({"target": image()}, 0)
    batch = {role: tensor(prepared, role) for role in prepared}
    method = GANCS(GANCS.Config.preset("small", size=(32, 32), scan=SCAN))
    scan = Scan.of(batch["input"])
    torch.testing.assert_close(method.rescanned(complete(batch), scan.encoding), batch["input"], atol=1e-5, rtol=0)
    noisy = GANCS(GANCS.Config.preset("small", size=(32, 32), scan=Undersampling(noise=0.01)))
    difference = Scan.of(noisy.rescanned(complete(batch), scan.encoding)).image - scan.image
    power = fft(difference).abs().square()
    assert power[scan.mask].mean() == pytest.approx(0.01, rel=0.15) and power[~scan.mask].max() < 1e-9


def test_scores_are_those_of_the_magnitudes():
    true = np.random.default_rng(0).uniform(0.2, 0.9, (2, 32, 32)).astype(np.float32)
    scores = task().scores(true + np.float32(0.01), {"target": true}, (3.0, 1.0, 1.0))
    assert scores[PSNR] == pytest.approx(40, abs=1e-3)
    assert scores[NMSE] == pytest.approx(nmse(true + 0.01, true, "norm ratio"), rel=1e-4)
    assert set(scores) == set(task().directions)
    assert task().selection in scores
    assert scores[BEST] == pytest.approx(scores[NMSE] + abs(np.log(scores[EDGES])))
    assert GANCS(GANCS.Config()).task.selection == BEST
    assert GANCS(GANCS.Config(adversarial_weight=0)).task.selection == NMSE
