import pickle

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    BasicTextSRStorage,
    EnhancedCTImageStorage,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from ganatomy.errors import UserError
from ganatomy.images import dicom_frames
from ganatomy.images.files import find, read
from ganatomy.images.nifti import read_nifti, write_nifti


def grey(value=0, shape=(4, 4), dtype=np.uint16):
    return np.full(shape, value, dtype)


def test_slices_come_in_order_of_position_and_in_hu(tmp_path, series):
    hu = series(tmp_path / "scan")
    image = read(tmp_path / "scan")
    np.testing.assert_array_equal(image.numpy()[0], hu)
    assert image.dtype == np.int16
    assert image.unit == "HU"
    assert (image.header.modality, image.header.subject) == ("CT", "P-7")
    assert not image.uneven


def test_opening_decodes_nothing_and_slabs_decode_their_own_slices(tmp_path, series, monkeypatch):
    series(tmp_path / "scan")
    decoded = []
    real = dicom_frames.Frame.decode
    monkeypatch.setattr(dicom_frames.Frame, "decode", lambda frame: (decoded.append(frame.path), real(frame))[1])
    image = read(tmp_path / "scan")
    image.spacing, image.uneven, image.dtype  # noqa: B018
    assert not decoded
    image.slab(2, 4)
    assert decoded == list(image.header.paths[2:4])


def test_lazy_series_travel_to_worker_processes(tmp_path, series):
    hu = series(tmp_path / "scan")
    image = pickle.loads(pickle.dumps(read(tmp_path / "scan")))
    np.testing.assert_array_equal(image.slab(1, 3)[0], hu[1:3])


def test_affine_of_an_oblique_series_by_hand(tmp_path, slice_file):
    # Columns run along +y, rows along -z (a sagittal view), so the slice normal is -x (LPS), +x in RAS.
    for index, x in enumerate([5.0, 2.0, -1.0]):
        slice_file(
            tmp_path / f"{index}.dcm",
            grey(index),
            ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
            ImagePositionPatient=[x, -7.0, 40.0],
            PixelSpacing=[0.75, 0.5],
        )
    image = read(tmp_path)
    assert image.numpy()[0, :, 0, 0].tolist() == [-1024, -1023, -1022]
    np.testing.assert_allclose(
        image.affine,
        [[3.0, 0, 0, -5.0], [0, 0, -0.5, 7.0], [0, -0.75, 0, 40.0], [0, 0, 0, 1]],
    )
    assert image.spacing == (3.0, 0.75, 0.5)


def test_gantry_tilt_stays_in_the_affine(tmp_path, slice_file):
    tilt = np.deg2rad(20)
    for index in range(3):
        slice_file(
            tmp_path / f"{index}",
            grey(index),
            z=4.0 * index,
            ImageOrientationPatient=[1, 0, 0, 0, float(np.cos(tilt)), float(-np.sin(tilt))],
        )
    image = read(tmp_path)
    assert not image.uneven
    np.testing.assert_allclose(image.affine[:3, 0], [0, 0, 4], atol=1e-9)
    np.testing.assert_allclose(image.affine[:3, 1], [0, -0.75 * np.cos(tilt), -0.75 * np.sin(tilt)], atol=1e-6)


def test_nifti_made_from_dicom_lies_in_the_same_place(tmp_path, series):
    series(tmp_path / "scan", ImageOrientationPatient=[0.8, 0.6, 0, -0.6, 0.8, 0])
    image = read(tmp_path / "scan")
    write_nifti(tmp_path / "scan.nii.gz", image)
    back = read_nifti(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(back.numpy(), image.numpy())
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-4)
    assert back.unit == "HU"


def test_missing_slices_are_an_error_with_place_and_remedy(tmp_path, series):
    hu = series(tmp_path / "scan", slices=7, skip=(3,))
    with pytest.raises(UserError, match=r"scan is not .*104\.00 mm.*108\.00 mm.*4\.00 mm apart.*2\.00 mm.*--uneven"):
        read(tmp_path / "scan")
    image = read(tmp_path / "scan", uneven=True)
    assert image.uneven
    np.testing.assert_array_equal(image.numpy()[0], np.delete(hu, 3, axis=0))
    np.testing.assert_allclose(image.slice_positions[:, 2], [100, 102, 104, 108, 110, 112])
    with pytest.raises(UserError, match="unevenly"):
        write_nifti(tmp_path / "a.nii", image)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "differ, and nothing .*folder of its own"), (None, "are equal: remove the doubled slices")],
)
def test_doubled_positions_are_an_error(tmp_path, series, slice_file, value, words):
    stored = series(tmp_path / "scan")[2] + 1024 if value is None else grey(value, (5, 7))
    series(tmp_path / "scan")
    slice_file(tmp_path / "scan" / "twice", stored.astype(np.uint16), z=104.0)
    with pytest.raises(UserError, match=rf"twice.*104\.00 mm.*{words}.*--uneven"):
        read(tmp_path / "scan")
    assert read(tmp_path / "scan", uneven=True).shape[0] == 7


def test_rounded_positions_are_not_uneven(tmp_path, series):
    series(tmp_path / "scan", gap=1.2504)
    for path in (tmp_path / "scan").iterdir():
        data = pydicom.dcmread(path)
        data.ImagePositionPatient = [round(float(x), 2) for x in data.ImagePositionPatient]
        data.save_as(path)
    assert not read(tmp_path / "scan").uneven


def test_mixed_matrix_sizes_name_the_file(tmp_path, series, slice_file):
    series(tmp_path / "scan")
    slice_file(tmp_path / "scan" / "odd", grey(0, (8, 8)), z=112.0)
    with pytest.raises(UserError, match="odd has 8x8"):
        read(tmp_path / "scan")


def test_truncated_pixels_and_headers_name_the_file(tmp_path, series):
    for name, keep in (("pixels", -9), ("header", 400)):
        series(tmp_path / name)
        victim = sorted((tmp_path / name).iterdir())[-1]
        victim.write_bytes(victim.read_bytes()[:keep])
        with pytest.raises(UserError, match=victim.name):
            read(tmp_path / name).numpy()


def test_undecodable_pixels_name_the_file(tmp_path, slice_file):
    data = slice_file(tmp_path / "a.dcm", grey())
    data.file_meta.TransferSyntaxUID = JPEG2000Lossless
    data.PixelData = encapsulate([b"no jpeg at all "])
    data["PixelData"].VR = "OB"
    data.save_as(tmp_path / "a.dcm")
    image = read(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=r"a\.dcm cannot be read as pixels of DICOM"):
        image.numpy()


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_pixels(tmp_path, slice_file, syntax):
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    data = slice_file(tmp_path / "a.dcm", pixels)
    data.compress(syntax)
    data.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").numpy()[0, 0], pixels.astype(int) - 1024)


def test_implicit_vr_without_meta_header_or_extension(tmp_path, slice_file):
    slice_file(tmp_path / "old.bare", grey(1000), syntax=ImplicitVRLittleEndian)
    (tmp_path / "old.bare").rename(tmp_path / "old")
    assert (read(tmp_path / "old").numpy() == -24).all()


def test_rescale_differs_by_slice(tmp_path, slice_file):
    slice_file(tmp_path / "a", grey(10), z=0, RescaleSlope="0.5", RescaleIntercept="1")
    slice_file(tmp_path / "b", grey(10), z=1, RescaleSlope="0.25", RescaleIntercept="0")
    image = read(tmp_path)
    assert image.dtype == np.float32
    assert image.numpy()[0, :, 0, 0].tolist() == [6.0, 2.5]


def test_signed_pixels_and_padding_value(tmp_path, slice_file):
    slice_file(tmp_path / "a", grey(-2000, dtype=np.int16), PixelPaddingValue=-2000, RescaleIntercept="0")
    image = read(tmp_path / "a")
    assert image.header.padding == -2000.0
    assert (image.numpy() == -2000).all()


def test_how_pixels_are_shown_changes_no_value(tmp_path, slice_file):
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        slice_file(tmp_path / photometric, grey(24), PhotometricInterpretation=photometric, BitsStored=12, HighBit=11)
        image = read(tmp_path / photometric)
        assert (image.numpy() == -1000).all() and image.unit == "HU"
        assert image.header.inverted == (photometric == "MONOCHROME1")


def test_colour(tmp_path, slice_file):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    slice_file(tmp_path / "a", pixels, Modality="US", RescaleIntercept=None, RescaleSlope=None)
    np.testing.assert_array_equal(read(tmp_path / "a").numpy()[:, 0], np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize("frames", [1, 2])
def test_palette_colours(tmp_path, slice_file, frames):
    tables = {}
    for colour, entries in (("Red", [0, 255]), ("Green", [7, 0]), ("Blue", [0, 9])):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 0, 8]
        tables[f"{colour}PaletteColorLookupTableData"] = bytes(entries)
    pixels = np.array([[0, 1], [1, 0]], np.uint8)
    data = slice_file(
        tmp_path / "a",
        pixels,
        Modality="US",
        PhotometricInterpretation="PALETTE COLOR",
        RescaleIntercept=None,
        RescaleSlope=None,
        ImagePositionPatient=None,
        NumberOfFrames=frames,
        **tables,
    )
    data.PixelData = pixels.tobytes() * frames
    data.save_as(tmp_path / "a")
    image = read(tmp_path / "a")
    assert image.array.shape == (3, frames, 2, 2)
    assert image.slab(frames - 1, frames)[:, 0, 0].T.tolist() == [[0, 7, 0], [255, 0, 9]]


@pytest.mark.parametrize(("kind", "unit"), [("HU", "HU"), ("US", "HU"), ("MGML", "MGML")])
def test_ct_maps_keep_their_unit(tmp_path, slice_file, kind, unit):
    slice_file(tmp_path / "a", grey(), RescaleType=kind)
    assert read(tmp_path / "a").unit == unit


@pytest.mark.parametrize(
    ("modality", "units", "unit"),
    [("MR", None, "a.u."), ("PT", "BQML", "Bq/mL"), ("PT", "GML", "SUV"), ("US", None, None)],
)
def test_units(tmp_path, slice_file, modality, units, unit):
    slice_file(tmp_path / "a", grey(), Modality=modality, Units=units)
    assert read(tmp_path / "a").unit == unit


@pytest.mark.parametrize(("kind", "unit"), [("BW", "SUV"), ("", "SUV"), ("LBM", "SUV LBM")])
def test_uptake_by_another_measure_than_weight_is_called_so(tmp_path, slice_file, kind, unit):
    slice_file(tmp_path / "a", grey(), Modality="PT", Units="GML", SUVType=kind)
    assert read(tmp_path / "a").unit == unit


def test_mixed_series_are_separated_and_named(tmp_path, series, slice_file):
    folder = tmp_path / "study"
    thin = series(folder, SeriesInstanceUID="1.2.3.4")
    for index in range(2):
        slice_file(
            folder / f"scout{index}",
            grey(0, (9, 9)),
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1] if index else [0, 1, 0, 0, 0, -1],
            SeriesDescription="Topo / ../gram",
        )
    slice_file(folder / "capture", grey(0, (3, 3)), ImagePositionPatient=None, ImageOrientationPatient=None)
    (folder / "README.txt").write_text("nothing")
    sources = find(folder)
    names = sorted(source.name for source in sources)
    assert len(set(names)) == 4
    assert [name.rsplit("-", 1)[0] for name in names] == ["study_Topo_.._gram"] * 2 + ["study_thin"] * 2
    assert {source.subject for source in sources} == {"P-7"}
    volumes = [source.open() for source in sources if len(source.paths) > 1]
    np.testing.assert_array_equal(volumes[0].numpy()[0], thin)
    with pytest.raises(UserError, match=r"holds 4 images .*study_thin"):
        read(folder)


def test_multi_frame_ct(tmp_path, slice_file):
    pixels = np.arange(3 * 4 * 4, dtype=np.uint16).reshape(3, 4, 4)
    data = slice_file(tmp_path / "a", pixels[0], SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=3)
    for keyword in "ImagePositionPatient ImageOrientationPatient PixelSpacing RescaleSlope RescaleIntercept".split():  # noqa: SIM905
        delattr(data, keyword)

    def item(**attributes):
        made = Dataset()
        for keyword, value in attributes.items():
            setattr(made, keyword, value)
        return made

    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[0.75, 0.5], SliceThickness=2)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")],
    )
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])]) for z in (4, 0, 2)
    ]
    data.PixelData = pixels.tobytes()
    data.save_as(tmp_path / "a")
    image = read(tmp_path / "a")
    assert image.unit == "HU"
    assert image.spacing == (2.0, 0.75, 0.5)
    np.testing.assert_array_equal(image.numpy()[0], pixels[[1, 2, 0]].astype(int) - 1024)


def test_dicom_without_pixels_is_no_image(tmp_path, slice_file):
    slice_file(tmp_path / "report", grey(), Rows=None, Columns=None, SOPClassUID=BasicTextSRStorage)
    with pytest.raises(UserError, match="no image"):
        read(tmp_path / "report")


@pytest.mark.parametrize(
    ("name", "z", "spacing", "low"),
    [
        ("totalseg", (-804.5, -766.5), (2.0, 0.9765625), -1024),
        ("lidc0314", (-552.8, -533.8), (1.0, 0.78125), -1000),
    ],
)
def test_real_series(shared, name, z, spacing, low):
    image = read(shared / "dicom-ct-series" / name)
    assert image.shape == (20, 512, 512)
    np.testing.assert_allclose(image.spacing, (spacing[0], spacing[1], spacing[1]))
    np.testing.assert_allclose(image.slice_positions[[0, -1], 2], z, atol=1e-3)
    middle = image.slab(9, 10)
    assert middle.dtype == np.int16
    assert middle.min() == low
    assert 300 < middle.max() < 3072


def test_real_order_is_anatomy_not_file_names(shared):
    image = read(shared / "dicom-ct-series" / "lidc0314")
    names = [path.name for path in image.header.paths]
    assert names != sorted(names)
    array = image.numpy()[0].astype(np.float32)
    by_name = array[np.argsort(names)]
    assert np.abs(np.diff(array, axis=0)).mean() < 0.7 * np.abs(np.diff(by_name, axis=0)).mean()


def test_real_uneven_head(shared):
    folder = shared / "dicom-ct-series" / "gehead"
    with pytest.raises(UserError, match=r"60\.70 mm.*61\.84 mm.*1\.14 mm apart.*4\.22"):
        read(folder)
    image = read(folder, uneven=True)
    assert image.uneven
    assert image.header.padding == -1500
    np.testing.assert_allclose(np.diff(image.slice_positions[-3:, 2]), [1.14, 7.38], atol=1e-6)
