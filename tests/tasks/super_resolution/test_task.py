from dataclasses import replace

import numpy as np
import pydicom
import pytest
import torch

from ganatomy.data.store import write_slabs
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.files import find, read, write
from ganatomy.images.frames import Frame
from ganatomy.images.image import ComputedArray, Header, Image, axial_affine
from ganatomy.inference.apply import Applier, Output
from ganatomy.inference.checks import Comparison
from ganatomy.inference.model import Model
from ganatomy.methods.frameworks.pix2pix import Pix2Pix
from ganatomy.methods.frameworks.srgan import SRGAN
from ganatomy.methods.reconstruction.thin_slice_3dsrgan import ThinSliceSRGAN
from ganatomy.physics.resolution import Bicubic, Decimation, ThickSlices, Truncation
from ganatomy.tasks.super_resolution.task import SuperResolution
from ganatomy.training.run import DataConfig, TrainConfig, train

PARTS = {"image": "t1", "mask": "mask:white"}
CODEC = Window(low=0, high=1000, unit="a.u.", clip=True)


IN_PLANE = Bicubic((1, 4, 4))
IN_SPACE = (Decimation((2, 2, 2)), ThickSlices((3, 1, 1)), Truncation((1, 2, 2)), Truncation((2, 1, 2)))


def task(degradation=IN_PLANE, dims=2):
    return SuperResolution(degradation, CODEC, (0.0, 1.0), 1, dims, "brain-mr", PARTS, "mae[window]")


def prepared_as(asked, given):
    """Return the images of a training case by role."""
    sample = asked.simulate(asked.frame(given), 0)
    return {name: sample.image(name) for name in sample.arrays}


def enlarged(values, factor):
    """Interpolate images (N, C, H, W) bicubically."""
    planes = Bicubic((1, factor, factor)).interpolated(np.float32(values).reshape(-1, *values.shape[2:]))
    return torch.from_numpy(planes.reshape(*values.shape[:2], *planes.shape[1:]))


def picture(rows=34, columns=29, slices=3, dtype=np.float32, unit="a.u."):
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.uniform(100, 900, (1, slices, rows // 8 + 1, columns // 8 + 1)))
    smooth = enlarged(values, 8)[..., :rows, :columns].numpy().clip(0, 1000)
    return Image.from_array(smooth.astype(dtype), (3.0, 0.9, 0.7), unit, Header(modality="MR"))


def test_the_coarse_image_lies_where_the_fine_one_does():
    given = picture()
    prepared = prepared_as(task(), {"image": given})
    fine, low = prepared["image"], prepared["low"]
    assert list(prepared) == ["image", "low"], "the fine image decides the shape of a case"
    assert fine.shape == (3, 32, 28) and low.shape == (3, 8, 7)
    assert np.array_equal(fine.numpy(), given.numpy()[:, :, :32, :28]) and np.array_equal(fine.affine, given.affine)
    assert low.spacing == pytest.approx((3.0, 3.6, 2.8))
    middle = fine.affine @ [0, 1.5, 1.5, 1]
    np.testing.assert_allclose(low.affine @ [0, 0, 0, 1], middle)
    want = task().degradation(torch.from_numpy(fine.numpy())).numpy()
    np.testing.assert_allclose(low.numpy(), want, rtol=1e-5)
    assert np.array_equal(low.slab(1, 2), low.numpy()[:, 1:2])


@pytest.mark.parametrize("degradation", IN_SPACE)
def test_a_volume_is_made_coarse_slab_by_slab_as_if_it_were_whole(degradation):
    given = picture(rows=13, columns=14, slices=19)
    prepared = prepared_as(task(degradation, 3), {"image": given})
    fine, low = prepared["image"], prepared["low"]
    scale = degradation.scale
    assert fine.shape == tuple(extent - extent % times for extent, times in zip(given.shape, scale, strict=True))
    assert low.shape == tuple(extent // times for extent, times in zip(given.shape, scale, strict=True))
    want = degradation(torch.from_numpy(fine.numpy())).numpy()
    parts = [low.slab(index, index + 1) for index in range(low.shape[0])]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), want, rtol=1e-5, atol=1e-2)
    middle = [(times - 1) / 2 for times in scale]
    np.testing.assert_allclose(low.affine @ [0, 0, 0, 1], fine.affine @ [*middle, 1])
    assert low.spacing == pytest.approx([step * times for step, times in zip(given.spacing, scale, strict=True)])


@pytest.mark.parametrize("degradation", [IN_PLANE, *IN_SPACE])
def test_a_slice_on_the_disk_is_read_once(degradation, tmp_path):
    asked, values = [], picture(rows=16, columns=16, slices=12)

    def slab(start, stop):
        asked.extend(range(start, stop))
        return values.slab(start, stop)

    lazy = values.with_array(ComputedArray((1, *values.shape), np.float32, slab))
    own = task(degradation)
    own.roles = {**own.roles, "image": replace(own.roles["image"], checked=False)}
    write_slabs(tmp_path, own.simulate(own.frame({"image": lazy}), 0))
    assert asked == list(range(12)), "in order, so that a compressed file is read as it is decompressed"
    low = np.load(tmp_path / "low.npy")
    np.testing.assert_allclose(low, degradation(torch.from_numpy(values.numpy())).numpy(), rtol=1e-4, atol=1e-2)


def test_patches_are_cut_from_both_images_where_they_share_a_grid():
    assert task().required == ("image",) and task().optional == ("low", "mask")
    own = task(Truncation((1, 2, 2)), 3)
    assert own.required == ("image", "low")
    fine, low, other = picture(), picture(), picture(rows=32)
    low = low.with_array(low.numpy()[:, ::-1])
    np.testing.assert_array_equal(prepared_as(own, {"image": fine, "low": low})["low"].numpy(), low.numpy())
    with pytest.raises(UserError, match="do not lie on one grid"):
        own.frame({"image": fine, "low": other})
    with pytest.raises(UserError, match="makes its coarse images itself"):
        task().frame({"image": fine, "low": low})


def test_a_phantom_for_volumes_has_voxels_as_high_as_wide():
    assert task(dims=2).phantom_grid(64) == {"size": 64}
    assert task(dims=3).phantom_grid(64) == {"size": 64, "slices": 32, "distance_mm": 200 / 64}
    assert task(dims=2).preparation.digest != task(Bicubic((1, 4, 4), 1.0), 2).preparation.digest
    assert task(dims=2).preparation.digest == task(dims=3).preparation.digest, "dims and codecs are no part of it"


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (picture(rows=3), "too few to be 1 x 4 x 4 times coarser"),
        (picture(unit="HU"), "is in HU"),
        (Image.from_array(picture().numpy().repeat(3, 0), unit="a.u."), "3 channels, but the system works with 1"),
    ],
)
def test_images_that_do_not_fit_are_refused(image, told):
    with pytest.raises(UserError, match=told):
        prepared_as(task(), {"image": image})


def bicubic():
    """A method that interpolates."""
    method = SRGAN(SRGAN.Config.preset("small", window=(0.0, 1000.0), patch=32, blocks=1, width=8))
    method.restore = lambda input: 2 * enlarged(input, 4) - 1
    return method.inference_mode()


def test_a_restored_image_has_the_finer_grid_in_the_same_place():
    image = picture(16, 15)
    found = Model(bicubic())(image).main
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
    applier({"low": source}, Output(tmp_path / name, kind))
    fine, coarse = read(tmp_path / name), read(tmp_path / "in.nii.gz")
    assert fine.shape == (3, 32, 32)
    assert fine.spacing == pytest.approx((3.0, 0.225, 0.175), rel=1e-4)
    np.testing.assert_allclose(fine.affine @ [0, 1.5, 1.5, 1], coarse.affine @ [0, 0, 0, 1], atol=1e-3)
    want = enlarged(torch.from_numpy(coarse.numpy().astype(np.float32)), 4).numpy()
    assert np.abs(fine.numpy() - want).max() <= 1


@pytest.fixture(scope="module")
def thin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thin")
    sizes = {"patch_shape": (12, 16, 16), "batch_size": 2, "blocks": 1, "width": 2}
    config = ThinSliceSRGAN.Config.preset("small", window=(0.0, 1000.0), adversarial_weight=0.0, **sizes)
    options = TrainConfig(rounds=2, validate_every=2, validation_slices=1, threads=1, diagnose=False)
    data = DataConfig(phantom_subjects=3, phantom_size=32, cache=folder)
    train("thin-slice-3dsrgan", folder / "run", config, data, options)
    return folder / "run"


@pytest.mark.parametrize(("given", "name", "kind"), [("in.nii.gz", "out.nii.gz", "nifti"), ("series", "out", "dicom")])
def test_files_get_more_slices_between_those_they_have(thin, tmp_path, given, name, kind):
    thick = picture(12, 11, slices=5, dtype=np.int16)
    write(tmp_path / given, thick)
    (source,) = find(tmp_path / given)
    applier = Applier(thin)
    applier.model.method.restore = lambda input: nearest(
        input[:, :, *(slice(m, -m) for m in applier.model.method.tiling.margin)]
    )
    applier({"low": source}, Output(tmp_path / name, kind))
    fine, coarse = read(tmp_path / name), read(tmp_path / given)
    assert fine.shape == (15, 12, 11) and not fine.uneven
    assert fine.spacing == pytest.approx((1.0, 0.9, 0.7), rel=1e-4)
    np.testing.assert_allclose(fine.affine @ [1, 0, 0, 1], coarse.affine @ [0, 0, 0, 1], atol=1e-3)
    np.testing.assert_allclose(fine.affine @ [13, 0, 0, 1], coarse.affine @ [4, 0, 0, 1], atol=1e-3)
    assert np.abs(fine.numpy() - coarse.numpy().repeat(3, 1)).max() <= 1
    if kind == "dicom":
        header = pydicom.dcmread(sorted((tmp_path / name).glob("*.dcm"))[7])
        assert header.SliceThickness == 1 and header.InstanceNumber == 8
        assert len(header.SourceImageSequence) == 1


def nearest(volume):
    return volume.repeat_interleave(3, 2)


def test_a_translator_of_one_size_gives_results_on_the_grid_of_the_image():
    windows = {name: {"window": (0, 1200)} for name in ("t1", "t2")}
    method = Pix2Pix(Pix2Pix.Config.preset("small", size=(32, 32), levels=4, **windows)).inference_mode()
    method.restore = lambda input: -input
    image = picture(80, 64)
    found = Model(method)(image).main
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


def test_a_mask_is_cut_like_its_image():
    fine = Image.from_array(3 * np.arange(2 * 9 * 10, dtype=np.float32).reshape(2, 9, 10), (2.0, 0.5, 0.7), "a.u.")
    mask = fine.with_array((fine.numpy() > 150).astype(np.float32))
    prepared = prepared_as(task(Bicubic((1, 4, 4)), 2), {"image": fine, "mask": mask})
    assert prepared["mask"].shape == prepared["image"].shape == (2, 8, 8)
    np.testing.assert_array_equal(prepared["mask"].numpy(), mask.numpy()[..., :8, :8])
    other = Image.from_array((np.arange(2 * 8 * 8) % 2).reshape(2, 8, 8), (2.0, 0.5, 0.7))
    with pytest.raises(UserError, match="do not lie on one grid"):
        task(Bicubic((1, 4, 4)), 2).frame({"image": fine, "mask": other})


@pytest.mark.parametrize("plane", ["sagittal", "coronal"])
@pytest.mark.parametrize("kind", [SRGAN, ThinSliceSRGAN])
def test_a_volume_that_is_stored_another_way_gets_its_finer_grid(kind, plane):
    axial = picture(12, 11, slices=5)
    turned = Frame.plan(axial, plane).into(axial)
    assert turned.shape != axial.shape
    if kind is SRGAN:
        method = bicubic()
    else:
        sizes = {"patch_shape": (12, 16, 16), "blocks": 1, "width": 2}
        method = kind(kind.Config.preset("small", window=(0.0, 1000.0), adversarial_weight=0.0, **sizes))
        deep, high, wide = method.tiling.margin
        method.restore = lambda input: nearest(input[:, :, deep:-deep, high:-high, wide:-wide])
    direct, found = (Model(method.inference_mode())(image).main for image in (axial, turned))
    assert found.shape == tuple(np.array(Frame.plan(direct, plane).size))
    back = Frame.plan(found, "axial").into(found)
    np.testing.assert_allclose(back.numpy(), direct.numpy(), atol=1e-3)
    np.testing.assert_allclose(back.affine, direct.affine, atol=1e-9)
    times = method.tiling.scale
    assert direct.shape == tuple(extent * factor for extent, factor in zip(axial.shape, times, strict=True))
    middle = [(factor - 1) / 2 for factor in times]
    np.testing.assert_allclose(direct.affine @ [*middle, 1], axial.affine @ [0, 0, 0, 1], atol=1e-9)


def test_slices_that_are_no_thicker_than_their_pixels_are_told():
    thick = Image.from_array(picture(12, 11, slices=5).numpy(), (4.5, 0.9, 0.7), "a.u.")
    sagittal = thick.with_geometry(thick.array, axial_affine((0.9, 0.7, 4.5))[:, [2, 0, 1, 3]])
    own = task(ThickSlices((3, 1, 1)), 3)
    assert own.frame({"low": thick}).notes == ()
    (told,) = own.frame({"low": sagittal}).notes
    assert "should be a stack of axial slices" in told and "0.9 mm apart, and their pixels 4.5 mm" in told
    assert task(Decimation((2, 2, 2)), 3).frame({"low": sagittal}).notes == ()
