import numpy as np
import pytest
import torch

from ganatomy.case import Case
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.files import find
from ganatomy.images.frames import Frame
from ganatomy.images.image import Header, Image
from ganatomy.inference.model import Model
from ganatomy.methods.reconstruction.dagan import DAGAN
from ganatomy.methods.reconstruction.gancs import GANCS
from ganatomy.metrics.reconstruction import nmse
from ganatomy.physics.coils import Encoding, simulated_sensitivities
from ganatomy.physics.fourier import as_channels, fft, ifft
from ganatomy.physics.sampling import Undersampling
from ganatomy.tasks.mr_reconstruction.scan import Scan
from ganatomy.tasks.mr_reconstruction.task import (
    BEST,
    EDGES,
    NMSE,
    PSNR,
    MRReconstruction,
    ReconstructionConfig,
    complete,
)

SCAN = Undersampling(fraction=0.4)


def task(phased=True, **values):
    return MRReconstruction(ReconstructionConfig(**{"size": (32, 32), "scan": SCAN, **values}), phased)


def prepared_as(asked, given, seed=0):
    """Return the images of a training case by role."""
    sample = asked.simulate(asked.frame(given), seed)
    return {name: sample.image(name) for name in sample.arrays}


def image(rows=32, columns=32, slices=3, modality="MR", unit="a.u.", channels=1, pixel=(0.9, 0.9)):
    values = np.random.default_rng(0).uniform(0, 800, (channels, slices, rows, columns)).astype(np.float32)
    return Image.from_array(values, (3.0, *pixel), unit, Header(modality=modality))


def tensor(prepared, role):
    return torch.from_numpy(prepared[role].numpy()).transpose(0, 1)


def test_a_prepared_case_is_a_scan_of_its_target():
    given = image()
    prepared = prepared_as(task(), {"target": given}, 0)
    assert list(prepared) == ["input", "target", "phase"] and prepared["input"].channels == 3
    target = prepared["target"].numpy()
    np.testing.assert_allclose(target, given.numpy() / given.numpy().max(), rtol=1e-6)
    scan = Scan.of(tensor(prepared, "input"))
    shown, mask = scan.image, scan.mask
    assert torch.equal(mask[0, 0], SCAN.mask((32, 32))) and mask.float().mean() == pytest.approx(0.4, abs=0.02)
    measured = fft(tensor(prepared, "target")) * mask
    torch.testing.assert_close(fft(shown), measured, atol=1e-5, rtol=0)


def test_slices_prepared_alone_are_the_same():
    prepared = prepared_as(task(phase=1.0, scan=Undersampling(redrawn=True, noise=1e-3)), {"target": image()}, 5)
    assert list(prepared) == ["input", "target", "phase"]
    for part in prepared.values():
        whole = part.numpy()
        assert np.array_equal(part.slab(1, 2), whole[:, 1:2])
    masks = prepared["input"].numpy()[2]
    assert not np.array_equal(masks[0], masks[1]), "a mask for every slice was asked for"


def test_the_phase_is_part_of_what_was_measured():
    prepared = prepared_as(task(phase=1.0), {"target": image()}, 0)
    true = complete({role: tensor(prepared, role) for role in prepared})
    torch.testing.assert_close(true.abs(), tensor(prepared, "target"))
    scan = Scan.of(tensor(prepared, "input"))
    shown, mask = scan.image, scan.mask
    torch.testing.assert_close(fft(shown), fft(true) * mask, atol=1e-5, rtol=0)
    assert true.angle().std() > 0.3


def test_images_of_another_size_are_framed_where_they_are():
    prepared = prepared_as(task(), {"target": image(64, 48, pixel=(0.9, 0.7))}, 0)
    assert prepared["input"].shape == prepared["target"].shape == (3, 32, 32)
    assert prepared["target"].spacing == pytest.approx((3.0, 1.8, 48 * 0.7 / 19)), "millimetres keep their proportions"
    target = prepared["target"].numpy()
    assert not target[..., :6].any() and not target[..., 25:].any(), "what is beside a contained image is filled with 0"
    assert target[..., 6:25].min() > 0


def test_a_percentile_becomes_one():
    given = image()
    (target,) = prepared_as(task(percentile=50.0), {"target": given}, 0)["target"].numpy()
    assert np.median(target) == pytest.approx(1, rel=1e-3)


def test_a_mask_is_framed_with_its_image():
    given = image(64, 48, pixel=(0.9, 0.7))
    mask = given.with_array(255 * (given.numpy() > 400).astype(np.uint8))
    prepared = prepared_as(task(), {"target": given, "mask": mask}, 0)
    framed = prepared["mask"].numpy()
    assert framed.shape == (1, 3, 32, 32) and framed.max() <= 1
    assert framed.dtype == np.uint8 and framed.mean() == pytest.approx(0.5 * 19 / 32, abs=0.02)
    with pytest.raises(UserError, match="do not lie on one grid"):
        prepared_as(task(), {"target": given, "mask": image(32, 32)}, 0)


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
        prepared_as(task(), given, 0)


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
        asked.frame({"input": shown})


def test_a_magnitude_goes_through_and_back_to_its_unit():
    method = DAGAN(DAGAN.Config.preset("small", size=(32, 32))).inference_mode()
    method.generator.head.weight.data.zero_()
    method.generator.head.bias.data.zero_()
    given = image()
    found = Model(method)(given).main
    assert found.unit == "a.u." and found.channels == 1
    np.testing.assert_allclose(found.numpy(), given.numpy(), atol=0.5)
    framed = Model(method)(image(64, 48, pixel=(0.9, 0.7))).main
    assert framed.shape == (3, 64, 48)


def test_a_complex_scan_keeps_what_was_measured():
    method = GANCS(GANCS.Config.preset("small", size=(32, 32))).inference_mode()
    true = torch.from_numpy(image().numpy()).transpose(0, 1)
    mask = method.task.scan.mask((32, 32))
    parts = as_channels(ifft(fft(true) * mask)).transpose(0, 1).numpy()
    found = []
    method.restore = lambda shown: found.append(shown) or shown[:, :1]
    restored = Model(method)(Image.from_array(parts, (3.0, 1.0, 1.0), "a.u.")).main
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
    """Draw bright complex images with a phase and an empty border, (slices, 1, rows, columns)."""
    y, x = (np.linspace(-1, 1, extent) for extent in (rows, columns))
    inside = (y[:, None] ** 2 + x**2 < 0.7) * (2 + np.cos(9 * y[:, None]) * np.sin(7 * x))
    planes = [300 * inside * np.exp(1j * (n + y[:, None])) for n in range(slices)]
    return torch.from_numpy(np.stack(planes)[:, None].astype(np.complex64))


def raw(coils=4, measured=1.0, **kind):
    """Make an image of raw data of several coils."""
    maps = simulated_sensitivities(coils, (32, 32), 1) if coils > 1 else torch.ones(1, 1, 1, 1)
    kspace = fft(smooth() * maps) * (SCAN.mask((32, 32)) if measured < 1 else 1)
    header = Header("kspace", **kind)
    return Image.from_array(as_channels(kspace).transpose(0, 1).numpy(), (3.0, 1.0, 1.0), "a.u.", header)


@pytest.mark.parametrize("sensitivities", ["estimated", "known"])
def test_several_coils_are_combined_and_kept_to(sensitivities):
    prepared = prepared_as(task(coils=4, phase=1.0, sensitivities=sensitivities), {"target": magnitudes()}, 0)
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
    prepared = prepared_as(task(coils=coils), {"target": raw()}, 0)
    scan, true = Scan.of(tensor(prepared, "input")), complete({role: tensor(prepared, role) for role in prepared})
    shown = true.abs() / true.abs().max()
    torch.testing.assert_close(shown, (smooth() / smooth().abs().max()).abs(), atol=0.03, rtol=0)
    assert true.abs().max() == pytest.approx(1, abs=0.02) and scan.mask.float().mean() < 0.5
    assert (scan.encoding.sensitivities is None) == (coils == 1)
    inside = shown > 0.1
    assert (scan.keep(true) - true).abs()[inside].mean() < 0.06


def test_raw_data_are_received_with_their_own_mask_and_coils():
    method = GANCS(GANCS.Config.preset("small", size=(32, 32), scan=Undersampling(redrawn=True)))
    given = raw(measured=0.4)
    sample = method.task.frame({"input": given})
    scan = Scan.of(torch.from_numpy(np.array(sample.arrays["input"])).transpose(0, 1))
    assert torch.equal(scan.mask[0, 0], SCAN.mask((32, 32))) and scan.encoding.sensitivities.shape[1] == 4
    found = []
    method.restore = lambda shown: found.append(shown) or Scan.of(shown).image.abs()
    made = Model(method.inference_mode())(given)
    restored, compared = made.main, made.compared["target"].image
    assert restored.channels == 1 and restored.unit == "a.u." and restored.shape == (2, 32, 32)
    np.testing.assert_allclose(restored.numpy()[0], scan.image.abs()[:, 0].numpy(), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(compared.numpy()[0], scan.image.abs()[:, 0].numpy(), rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(torch.cat(found)[:, 2:], scan.packed[:, 2:])
    assert torch.cat(found)[:, :2].square().sum(1).max() == pytest.approx(1), "the brightest one becomes 1"


@pytest.mark.parametrize("channels", [1, 2])
def test_a_volume_that_is_stored_another_way_is_turned_and_comes_back(channels):
    values = np.random.default_rng(0).uniform(0, 800, (channels, 3, 40, 32)).astype(np.float32)
    axial = Image.from_array(values, (3.0, 0.7, 0.7), "a.u.", Header(modality="MR"))
    turned = Frame.plan(axial, "sagittal").into(axial)
    assert turned.shape == (32, 3, 40)
    kind = GANCS if channels == 2 else DAGAN
    method = kind(kind.Config.preset("small", size=(40, 32), **({} if channels == 2 else {"levels": 3})))
    seen = []
    method.restore = lambda shown: seen.append(shown) or Scan.of(shown).image.abs()
    found = Model(method.inference_mode())(turned)
    assert found.main.shape == turned.shape and np.array_equal(found.main.affine, turned.affine)
    want = np.sqrt(np.square(values).sum(0))
    found.main.numpy()
    np.testing.assert_allclose(torch.cat(seen)[:, :2].square().sum(1).sqrt().numpy(), want / want.max(), atol=1e-5)
    there = Frame.plan(turned, "axial").into(found.main)
    np.testing.assert_allclose(there.numpy()[0], want, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found.compared["target"].image.numpy(), found.main.numpy(), rtol=1e-4, atol=1e-2)


def test_only_intensities_are_scaled_and_packed_channels_become_a_complex_image_again():
    role = task(coils=2).roles["input"]
    packed = np.random.default_rng(0).uniform(1, 2, (7, 3, 32, 32)).astype(np.float32)
    bound = role.with_numbers(Window(low=0, high=4, to=(0, 1), unit="a.u.").model_dump())
    for shown in (bound.encoded(packed), bound.tensor(packed, 3).numpy()):
        np.testing.assert_allclose(shown[:2], packed[:2] / 4)
        np.testing.assert_array_equal(shown[2:], packed[2:])
    assert bound.tensor(packed[:, :1], 2).shape == (7, 32, 32)
    like = image(channels=2)
    complex_ = bound.value(packed, Frame.plan(like), like)
    assert complex_.unit == "a.u." and np.array_equal(complex_.affine, like.affine)
    np.testing.assert_array_equal(complex_.numpy(), packed[:2])
    assert role.numbers()["high"] == 1 and bound.numbers()["high"] == 4


def test_prepared_cases_are_relative_to_their_brightest_values(tmp_path):
    np.save(tmp_path / "a.npy", image().numpy()[0])
    (source,) = find(tmp_path / "a.npy")
    (case,) = Store(task(), tmp_path / "cases").get_all([Case("a", "a", "train", {"target": source})])[0]
    assert case.arrays["target"].max() == pytest.approx(1)
    for name in ("input", "target"):
        assert case.role(name).numbers()["high"] == 1, "and are not bound again"
    assert case.role("input").tensor(case.arrays["input"][:, :1], 2).dtype == torch.float32


@pytest.mark.parametrize(
    ("asked", "given", "told"),
    [
        (task(coils=2), raw(), "4 coils; train with --coils 4"),
        (task(), raw(measured=0.4), "41% of k-space is measured"),
        (task(percentile=100.0), raw(modality="CT"), "modality CT"),
    ],
)
def test_raw_data_that_cannot_be_learned_from_are_refused(asked, given, told):
    with pytest.raises(UserError, match=told):
        prepared = prepared_as(asked, {"target": given}, 0)
        prepared["input"].slab(0, 1)


def test_a_mask_lies_on_raw_data_of_its_size_wherever_it_says_it_lies():
    inside = magnitudes().numpy() > 300
    mask = Image.from_array(inside.astype(np.uint8), (5.0, 0.4, 0.6))
    prepared = prepared_as(task(), {"target": raw(1), "mask": mask})
    np.testing.assert_array_equal(prepared["mask"].numpy(), inside)
    with pytest.raises(UserError, match="do not lie on one grid"):
        prepared_as(task(), {"target": raw(1), "mask": Image.from_array(inside[:, :1].astype(np.uint8))})


def test_scanning_again_gives_what_was_prepared_and_fresh_noise():
    prepared = prepared_as(task(phase=1.0), {"target": image()}, 0)
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
    scores = task().scores({"target": true + np.float32(0.01)}, {"target": true}, (3.0, 1.0, 1.0))
    assert scores[PSNR] == pytest.approx(40, abs=1e-3)
    assert scores[NMSE] == pytest.approx(nmse(true + 0.01, true, "norm ratio"), rel=1e-4)
    assert set(scores) == set(task().directions)
    assert task().selection in scores
    assert scores[BEST] == pytest.approx(scores[NMSE] + abs(np.log(scores[EDGES])))
    assert GANCS(GANCS.Config()).task.selection == BEST
    assert GANCS(GANCS.Config(adversarial_weight=0)).task.selection == NMSE
