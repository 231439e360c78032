"""Raw data of any size: one run is trained on, and applied to, HDF5 files of several widths."""

import json

import numpy as np
import pytest
import torch
from runs import make_run

from ganatomy.case import Case
from ganatomy.data.store import Store
from ganatomy.errors import Notice, UserError
from ganatomy.images.files import find, read
from ganatomy.images.image import Image
from ganatomy.inference.apply import Applier, plan
from ganatomy.inference.model import Model
from ganatomy.methods.reconstruction.csmri_refinement import CSMRIRefinement
from ganatomy.methods.reconstruction.dagan import DAGAN
from ganatomy.methods.reconstruction.gancs import GANCS
from ganatomy.methods.reconstruction.kspace_gan import KSpaceGAN
from ganatomy.methods.reconstruction.refinegan import RefineGAN
from ganatomy.physics.coils import simulated_sensitivities
from ganatomy.physics.fourier import fft, ifft
from ganatomy.physics.sampling import Undersampling
from ganatomy.tasks.mr_reconstruction.grids import Grids
from ganatomy.tasks.mr_reconstruction.scan import Scan
from ganatomy.tasks.mr_reconstruction.task import MRReconstruction, ReconstructionConfig, complete

h5py = pytest.importorskip("h5py")

TAKEN = (32, 28)
OWN = [(32, 24), (30, 33), (41, 28)]
"""Rows and columns of files, of which the networks take `TAKEN`: padded, padded and cropped, cropped."""
SCAN = Undersampling(pattern="equispaced", fraction=0.4)


def complexes(own, slices=2):
    """Draw complex images of one coil, (slices, 1, rows, columns), of an object that fills two thirds of the field."""
    y, x = (np.linspace(-1, 1, extent) for extent in own)
    inside = (y[:, None] ** 2 + x**2 < 0.5) * (2 + np.cos(7 * y[:, None]) * np.sin(5 * x))
    planes = [300 * inside * np.exp(1j * (n + y[:, None])) for n in range(slices)]
    return torch.from_numpy(np.stack(planes)[:, None].astype(np.complex64))


def measured(own, coils=1, scan=None):
    """Return k-space of these images, (slices, coils, rows, columns), undersampled on its own grid by a scan."""
    maps = simulated_sensitivities(coils, own, 1) if coils > 1 else torch.ones(1, 1, 1, 1)
    return fft(complexes(own) * maps) * (scan.mask(own) if scan else 1)


def saved(path, kspace):
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace[:, 0].numpy() if kspace.shape[1] == 1 else kspace.numpy()
    (source,) = find(path)
    return source


def task(**values):
    return MRReconstruction(ReconstructionConfig(size=TAKEN, scan=SCAN, **values), True)


def method(kind=GANCS, **values):
    torch.manual_seed(0)
    return kind(kind.Config.preset("small", size=TAKEN, scan=SCAN, **values)).inference_mode()


def tensor(sample, role):
    return torch.from_numpy(np.array(sample.arrays[role])).transpose(0, 1)


@pytest.mark.parametrize("own", [*OWN, (31, 27), (33, 29), TAKEN])
def test_every_sample_keeps_its_frequency_and_every_intensity_its_value(own):
    grids, kspace = Grids(own, TAKEN), measured(own)
    given = grids.kspace(kspace)
    gain = (TAKEN[0] * TAKEN[1] / (own[0] * own[1])) ** 0.5
    for row in (-own[0] // 4, 0, 3):
        here, there = ([extent // 2 + at for extent, at in zip(shape, (row, 2), strict=True)] for shape in (own, TAKEN))
        torch.testing.assert_close(given[..., there[0], there[1]], gain * kspace[..., here[0], here[1]])
    flat = torch.full((1, 1, *own), 5.0 + 2j)
    torch.testing.assert_close(grids.image(flat), torch.full((1, 1, *TAKEN), 5.0 + 2j))
    torch.testing.assert_close(grids.back(grids.image(flat)), flat)
    again = fft(grids.back(ifft(given)))
    torch.testing.assert_close(again * ~grids.outside(), kspace * ~grids.outside(), atol=1e-2, rtol=1e-5)
    assert grids.outside().sum() == own[0] * own[1] - min(own[0], TAKEN[0]) * min(own[1], TAKEN[1])
    assert grids.crops == bool(grids.outside().any())


@pytest.mark.parametrize("coils", [1, 3])
def test_files_of_mixed_widths_are_learned_from_with_the_acceleration_of_their_own_lines(tmp_path, coils):
    asked = task(coils=coils)
    cases = [
        Case(name, name, "train", {"target": saved(tmp_path / f"{name}.h5", measured(own, coils))})
        for name, own in (("a", OWN[0]), ("b", OWN[1]), ("c", OWN[2]))
    ]
    with pytest.warns(Notice, match=r"cropped to the 32x28 .* train with --size 41 28"):
        samples = Store(asked, tmp_path / "cases").get_all(cases)[0]
    for sample, own in zip(samples, OWN, strict=True):
        scan, grids = Scan.of(tensor(sample, "input")), Grids(own, TAKEN)
        mask = grids.mask(SCAN.mask(own))
        assert torch.equal(scan.mask, mask.expand_as(scan.mask))
        if own[1] <= TAKEN[1]:
            lines = int(SCAN.mask(own)[0].sum())
            assert int(mask[mask.shape[0] // 2].sum()) == lines, "as many lines are measured as in a scan of this width"
        true = complete({role: tensor(sample, role) for role in ("target", "phase")})
        want = grids.image(complexes(own))
        torch.testing.assert_close(true.abs(), want.abs() / complexes(own).abs().max(), atol=0.03, rtol=0)
        if coils == 1:
            torch.testing.assert_close(fft(scan.image), fft(true) * mask, atol=1e-4, rtol=0)
            samples_given = grids.kspace(measured(own, 1, SCAN)) / complexes(own).abs().max()
            torch.testing.assert_close(fft(scan.image).abs(), samples_given.abs(), atol=1e-4, rtol=0)
        _, rows, columns = sample.spacing
        assert (rows * TAKEN[0], columns * TAKEN[1]) == pytest.approx(own), "the field of view is that of the file"


def test_a_mask_of_the_files_grid_comes_along(tmp_path):
    own = OWN[1]
    source = saved(tmp_path / "a.h5", measured(own))
    inside = (complexes(own).abs()[:, 0] > 0).numpy()
    labels = Image.from_array(inside[None].astype(np.uint8), (1.0, 1.0, 1.0))
    with pytest.warns(Notice, match="cropped"):
        sample = task().simulate(task().frame({"target": source.open(), "mask": labels}), 0)
    (framed,) = np.asarray(sample.arrays["mask"])
    bright = np.asarray(sample.arrays["target"])[0] > 0.3
    assert framed.shape == (2, *TAKEN) and (framed.astype(bool) == bright).mean() > 0.93
    with pytest.raises(UserError, match="do not lie on one grid"):
        task().frame({"target": source.open(), "mask": Image.from_array(inside[None, :, 1:].astype(np.uint8))})


SMALL = {
    RefineGAN: {"levels": 2},
    KSpaceGAN: {"encoder": (8, 8, 8), "decoder": (8, 8), "image_network": True, "seen": (16, 16)},
}
"""Options with which the networks take `TAKEN`."""


@pytest.mark.parametrize("own", [*OWN, TAKEN])
@pytest.mark.parametrize("kind", [GANCS, RefineGAN, CSMRIRefinement, KSpaceGAN])
def test_the_result_has_the_files_size_and_all_samples_it_measured(tmp_path, own, kind):
    model = Model(method(kind, **SMALL.get(kind, {})))
    source = saved(tmp_path / "a.h5", measured(own, 1, SCAN))
    predictor = model.predictor()
    sample = predictor.sample_of({"input": source.open()})
    made = predictor.predict(sample)
    assert made.main.shape == (2, *own) and made.compared["target"].image.shape == (2, *own)
    if own == TAKEN:
        return
    bright = sample.role("input").codec.high
    image = bright * predictor._restored(sample, 0, 2)
    np.testing.assert_allclose(image.abs()[:, 0].numpy(), made.main.numpy()[0], rtol=1e-3, atol=1e-2)
    kept, kspace = SCAN.mask(own), measured(own, 1, SCAN)
    outside = Grids(own, TAKEN).outside()
    torch.testing.assert_close((fft(image) * outside), kspace * outside, atol=0.05, rtol=1e-3)
    if kind in (GANCS, RefineGAN):  # which end with data consistency, and do not change magnitudes after it
        torch.testing.assert_close((fft(image) * kept), kspace, atol=0.05, rtol=1e-3)


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("coils", [1, 3])
def test_a_network_that_is_right_gives_the_right_image_on_the_files_grid(tmp_path, own, coils, monkeypatch):
    network, grids = method(), Grids(own, TAKEN)
    source = saved(tmp_path / "a.h5", measured(own, coils, SCAN))
    predictor = Model(network).predictor()
    sample = predictor.sample_of({"input": source.open()})
    true = complexes(own)
    given = grids.image(true) / sample.role("input").codec.high
    monkeypatch.setattr(network, "complex_image", lambda shown: given)
    made = torch.from_numpy(predictor.predict(sample).main.numpy()[0])
    if not grids.crops:
        torch.testing.assert_close(made, true.abs()[:, 0], atol=0.05, rtol=1e-4)
        return
    # What the network is not given is there as far as it was measured.
    known = ifft(fft(true) * ~grids.outside())
    assert (made - true.abs()[:, 0]).norm() < (known.abs() - true.abs()).norm()


def test_magnitudes_alone_come_back_with_the_phase_of_the_scan(tmp_path):
    own = OWN[0]
    network = method(DAGAN, levels=2)
    network.generator.head.weight.data.zero_()
    network.generator.head.bias.data.zero_()
    source = saved(tmp_path / "a.h5", measured(own, 2, SCAN))
    made = Model(network)(source.open())
    seen = made.compared["target"].image.numpy()
    np.testing.assert_allclose(made.main.numpy(), seen, atol=0.02 * seen.max())
    assert made.facts["k-space"]["phase"] == "that of the zero-filled image"


@pytest.mark.parametrize("kind", [GANCS, RefineGAN, CSMRIRefinement, KSpaceGAN])
def test_results_of_another_width_say_where_their_phase_is_from(tmp_path, kind):
    model = Model(method(kind, **SMALL.get(kind, {})))
    wide, same = (saved(tmp_path / f"{own[1]}.h5", measured(own, 1, SCAN)) for own in (OWN[0], TAKEN))
    assert model(wide.open()).facts["k-space"]["phase"] == "predicted"
    assert "phase" not in model(same.open()).facts["k-space"]


def test_the_note_says_what_was_done_and_one_run_serves_all_widths(tmp_path):
    make_run(tmp_path / "run", "gancs", {"size": TAKEN, "width": 4, "discriminator_width": 4})
    applier = Applier(tmp_path / "run")
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, own in enumerate((*OWN, TAKEN)):
        saved(folder / f"{number}.h5", measured(own, 1 + number % 2, SCAN))
    told = []
    sources = find(folder)
    for source, output in zip(sources, plan(sources, tmp_path / "out"), strict=True):
        warnings = applier({"input": source}, output)
        note = json.loads(output.note.read_text())
        told.append({axis: note["k-space"][axis] for axis in ("rows", "columns")})
        own = tuple(note["k-space"]["measured"])
        assert read(output.path).shape == (2, *own) and note["k-space"]["network"] == list(TAKEN)
        assert any("--size" in words for words in warnings) == Grids(own, TAKEN).crops
    assert told == [
        {"rows": "kept", "columns": "padded with zeros"},
        {"rows": "padded with zeros", "columns": "cropped"},
        {"rows": "cropped", "columns": "kept"},
        {"rows": "kept", "columns": "kept"},
    ]
