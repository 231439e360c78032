import numpy as np
import pytest
import torch

from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.files import find, read, write
from ganatomy.images.image import Header, Image
from ganatomy.inference.apply import Applier, Output
from ganatomy.inference.checks import Comparison
from ganatomy.inference.model import Model
from ganatomy.methods.frameworks.pix2pix import Pix2Pix
from ganatomy.methods.frameworks.srgan import SRGAN
from ganatomy.physics.resolution import coarser, enlarged
from ganatomy.tasks.superresolution import SuperResolution
from ganatomy.training.run import DataConfig, TrainConfig, train

CODEC = Window(low=0, high=1000, unit="a.u.", clip=True)


def task(factor=4, blur=0.0):
    return SuperResolution(CODEC, factor, blur, 1, "brain-mr", "t1", "mae[window]")


def picture(rows=34, columns=29, slices=3, dtype=np.float32, unit="a.u."):
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.uniform(100, 900, (1, slices, rows // 8 + 1, columns // 8 + 1)))
    smooth = enlarged(values, 8)[..., :rows, :columns].numpy().clip(0, 1000)
    return Image.from_array(smooth.astype(dtype), (3.0, 0.9, 0.7), unit, Header(modality="MR"))


def test_the_coarse_image_lies_where_the_fine_one_does():
    given = picture()
    prepared = task().prepare({"image": given}, 0)
    fine, low = prepared["image"], prepared["low"]
    assert list(prepared) == ["image", "low"], "the fine image decides the shape of a case"
    assert fine.shape == (3, 32, 28) and low.shape == (3, 8, 7)
    assert np.array_equal(fine.numpy(), given.numpy()[:, :, :32, :28]) and np.array_equal(fine.affine, given.affine)
    assert low.spacing == pytest.approx((3.0, 3.6, 2.8))
    middle = fine.affine @ [0, 1.5, 1.5, 1]
    np.testing.assert_allclose(low.affine @ [0, 0, 0, 1], middle)
    want = coarser(torch.from_numpy(fine.numpy()), 4, 0.0).numpy()
    np.testing.assert_allclose(low.numpy(), want, rtol=1e-5)
    assert np.array_equal(low.slab(1, 2), low.numpy()[:, 1:2])


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (picture(rows=3), "too few to be 4 times coarser"),
        (picture(unit="HU"), "is in HU"),
        (Image.from_array(picture().numpy().repeat(3, 0), unit="a.u."), "3 channels, but the system works with 1"),
    ],
)
def test_images_that_do_not_fit_are_refused(image, told):
    with pytest.raises(UserError, match=told):
        task().prepare({"image": image}, 0)


def bicubic():
    """A system that interpolates."""
    method = SRGAN(SRGAN.Config.preset("small", window=(0.0, 1000.0), patch=32, blocks=1, width=8))
    method.restore = lambda input: 2 * enlarged(input, 4) - 1
    return method.inference_mode()


def test_a_restored_image_has_the_finer_grid_in_the_same_place():
    image = picture(16, 15)
    found = Model(bicubic())(image)
    assert found.shape == (3, 64, 60) and found.spacing == pytest.approx((3.0, 0.9 / 4, 0.7 / 4))
    np.testing.assert_allclose(found.affine @ [1, 1.5, 1.5, 1], image.affine @ [1, 0, 0, 1])
    want = enlarged(torch.from_numpy(image.numpy()), 4).numpy()
    np.testing.assert_allclose(found.numpy(), want, atol=1e-2)
    assert np.array_equal(found.slab(1, 2), found.numpy()[:, 1:2])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sr")
    config = SRGAN.Config.preset("small", window=(0.0, 1000.0), patch=32, batch_size=2, blocks=1, width=8)
    options = TrainConfig(rounds=2, validate_every=2, validation_slices=1, threads=1, diagnose=False)
    train("srgan", folder / "run", config, DataConfig(phantom_subjects=3, phantom_size=32, cache=folder), options)
    return folder / "run"


@pytest.mark.parametrize(("name", "kind"), [("out.nii.gz", "nifti"), ("series", "dicom")])
def test_files_are_written_on_the_finer_grid(run, tmp_path, name, kind):
    write(tmp_path / "in.nii.gz", picture(8, 8, dtype=np.int16))
    (source,) = find(tmp_path / "in.nii.gz")
    applier = Applier(run)
    applier.model.method.restore = bicubic().restore
    applier(source, Output(tmp_path / name, kind))
    fine, coarse = read(tmp_path / name), read(tmp_path / "in.nii.gz")
    assert fine.shape == (3, 32, 32)
    assert fine.spacing == pytest.approx((3.0, 0.225, 0.175), rel=1e-4)
    np.testing.assert_allclose(fine.affine @ [0, 1.5, 1.5, 1], coarse.affine @ [0, 0, 0, 1], atol=1e-3)
    want = enlarged(torch.from_numpy(coarse.numpy().astype(np.float32)), 4).numpy()
    assert np.abs(fine.numpy() - want).max() <= 1


def test_a_translator_of_one_size_gives_results_on_the_grid_of_the_image():
    method = Pix2Pix(Pix2Pix.Config.preset("small", size=(32, 32), levels=4)).inference_mode()
    method.restore = lambda input: -input
    image = picture(80, 64)
    found = Model(method)(image)
    assert found.shape == image.shape and np.array_equal(found.affine, image.affine)
    # Of the same windows, the negative of an image at a lower resolution.
    assert np.corrcoef(found.numpy().ravel(), image.numpy().ravel())[0, 1] < -0.95
    assert np.abs(found.numpy() - (1200 - image.numpy())).mean() < 30


def test_images_of_two_contrasts_are_compared_by_what_they_share():
    values = picture().numpy()
    for output, lost in ((1000 - values, False), (np.random.default_rng(0).permuted(values), True)):
        comparison = Comparison("a.u.", (CODEC, CODEC))
        comparison.add(values, output)
        assert any("hardly depends" in told for told in comparison.warnings) == lost
        assert comparison.summary()["mutual information with input in bits"] >= 0
    assert any("inverted" in told for told in _alike(values).warnings)


def _alike(values):
    comparison = Comparison("a.u.")
    comparison.add(values, 1000 - values)
    return comparison
