import struct
import zlib

import highdicom
import numpy as np
import pydicom
import pytest
import tifffile
from highdicom.seg import Segmentation, SegmentDescription
from PIL import Image as Pillow
from pydicom.sr.codedict import codes

from ganatomy.errors import UserError
from ganatomy.images.files import find, read
from ganatomy.images.image import ComputedArray, Header, Image, RasterMeaning
from ganatomy.images.labelmaps import palette, placed, read_segmentation, write_labels

SPACING = (3.0, 0.7, 0.5)


def labelled(path, meaning=None, **options):
    (source,) = find(path, meaning=meaning)
    return source.labelled(**options).open()


def some(shape, labels=(0, 1, 4), dtype=np.uint8):
    return np.random.default_rng(2).choice(np.array(labels), shape).astype(dtype)


def palette_picture(labels, colours):
    picture = Pillow.frombytes("P", labels.shape[::-1], labels.astype(np.uint8).tobytes())
    picture.putpalette([number for colour in colours for number in colour])
    return picture


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.bmp", "a.tif"])
def test_labels_of_a_palette_are_its_places(tmp_path, name):
    labels = some((7, 5), (0, 1, 2))
    palette_picture(labels, [(200, 0, 30), (0, 0, 0), (9, 250, 0)]).save(tmp_path / name)
    found = labelled(tmp_path / name)
    assert (found.channels, found.unit) == (1, None)
    np.testing.assert_array_equal(found.numpy()[0, 0], labels)
    assert read(tmp_path / name).channels == 3  # read as an image it has colours


@pytest.mark.parametrize("colours", [[(0, 0, 0), (255, 255, 255)], [(255, 255, 255), (0, 0, 0)]])
def test_places_of_a_palette_of_greys_are_labels_too(tmp_path, colours):
    labels = some((6, 9), (0, 1))
    palette_picture(labels, colours).save(tmp_path / "manual.gif")
    np.testing.assert_array_equal(labelled(tmp_path / "manual.gif").numpy()[0, 0], labels)


def test_bits_are_labels_0_and_1(tmp_path):
    labels = some((6, 9), (0, 1))
    picture = Pillow.fromarray((labels * 255).astype(np.uint8)).convert("1")
    picture.save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", labels.astype(bool), photometric="minisblack")
    tifffile.imwrite(tmp_path / "c.tif", ~labels.astype(bool), photometric="miniswhite")
    for name in ("a.png", "b.tif", "c.tif"):
        np.testing.assert_array_equal(labelled(tmp_path / name).numpy()[0, 0], labels)
        np.testing.assert_array_equal(read(tmp_path / name).numpy()[0, 0], labels * 255)


@pytest.mark.parametrize(("bits", "labels"), [(2, (0, 1, 3)), (4, (0, 1, 9, 15))])
def test_greys_of_few_bits_are_not_spread(tmp_path, bits, labels):
    values = some((6, 8), labels)
    packed = np.packbits(np.unpackbits(values[..., None], axis=-1)[..., -bits:].reshape(6, -1), axis=-1)
    head = struct.pack(">IIBBBBB", 8, 6, bits, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    chunks = (b"IHDR", head), (b"IDAT", body), (b"IEND", b"")
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    )
    np.testing.assert_array_equal(labelled(tmp_path / "a.png").numpy()[0, 0], values)


def test_equal_colours_are_one_label_map_and_others_none(tmp_path):
    labels = some((5, 4), (0, 7, 255))
    Pillow.fromarray(np.stack([labels] * 3, -1)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(labelled(tmp_path / "a.png").numpy(), labels[None, None])
    Pillow.fromarray(np.stack([labels, labels, 0 * labels], -1)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"b\.png is in colours"):
        labelled(tmp_path / "b.png")


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_slope_and_intercept_do_not_count_but_the_size_of_a_pixel_does(tmp_path, suffix):
    image = Image.from_array(some((5, 4)))
    write_labels(tmp_path / f"a{suffix}", image)
    found = labelled(tmp_path / f"a{suffix}", RasterMeaning(2.0, -1024, "HU", 0.25))
    np.testing.assert_array_equal(found.numpy(), image.numpy())
    assert (found.unit, found.spacing) == (None, (1.0, 0.25, 0.25))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".tif", ".npy", ".png"])
@pytest.mark.parametrize("most", [4, 255, 300, 65535, 70000])
def test_maps_come_back_from_every_format(tmp_path, suffix, most):
    path = tmp_path / f"map{suffix}"
    slices = 1 if suffix == ".png" else 3
    values = some((slices, 5, 7), (0, 1, most), np.int64)
    like = Image.from_array(np.zeros(values.shape, np.float32), SPACING, "HU")
    like = Image(
        like.array, like.affine, "HU", Header(kind="raster", meaning=RasterMeaning(1, -1024), stored=np.dtype("u2"))
    )
    if suffix == ".png" and most > 65535:
        with pytest.raises(UserError, match="too large for a PNG"):
            write_labels(path, like.with_array(values[None]))
        return
    write_labels(path, like.with_array(values[None]))
    found = labelled(path)
    np.testing.assert_array_equal(found.numpy()[0], values)
    assert found.dtype == (np.uint8 if most < 256 else np.uint16 if most < 65536 else np.uint32)
    if suffix.startswith(".nii"):
        np.testing.assert_allclose(found.affine, like.affine)


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.uint16])
def test_maps_of_any_type_are_written_as_integers(tmp_path, dtype):
    values = some((1, 4, 6, 5), (0, 1)).astype(dtype)
    write_labels(tmp_path / "a.nii.gz", Image.from_array(values))
    assert labelled(tmp_path / "a.nii.gz").dtype == (np.uint16 if dtype == np.uint16 else np.uint8)
    np.testing.assert_array_equal(labelled(tmp_path / "a.nii.gz").numpy(), values)


def test_maps_are_written_slab_by_slab(tmp_path):
    values, asked = some((1, 4, 6, 5)), []

    def slab(start, stop):
        asked.append((start, stop))
        return values[:, start:stop]

    write_labels(tmp_path / "a.nii", Image(ComputedArray(values.shape, np.uint8, slab), np.eye(4)))
    assert asked == [(index, index + 1) for index in range(4)]


def test_small_maps_are_pictures_in_colours(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)
    write_labels(tmp_path / "a.png", Image.from_array(labels))
    with Pillow.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), palette()[labels[0, 0]])
    assert len({tuple(colour) for colour in palette()}) == 256 and not palette()[0].any()


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("a", [[0, 1]], "DICOM segmentations: choose"),
        ("a.jpg", [[0, 1]], r"\.jpg: choose"),
        ("a.png", np.zeros((2, 3, 4), np.uint8), "1 slice, not 2"),
        ("a.nii", [[0, 0.5]], "between integers"),
        ("a.nii", [[0.0, np.nan]], "between integers"),
        ("a.nii", [[0, -1]], "-1 to 0 are no labels"),
        ("a.nii", [[0.0, 2.0**33]], "are no labels"),
        ("a.nii", np.zeros((2, 1, 3, 4), np.uint8), "one channel, not 2"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path, name, values, words):
    with pytest.raises(UserError, match=words):
        write_labels(tmp_path / name, Image.from_array(np.asarray(values)))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def segmented(tmp_path, series):
    """Return a function that writes a DICOM segmentation of a CT series and returns the image and the path."""

    def write(masks, kind="BINARY", turned=False):
        """Write masks (segments, slices, rows, columns)."""
        series(tmp_path / "ct")
        files = sorted(
            (pydicom.dcmread(path) for path in (tmp_path / "ct").iterdir()),
            key=lambda file: float(file.ImagePositionPatient[2]),
        )
        for file in files:
            file.PatientName = "A^B"
        pixels = np.moveaxis(np.asarray(masks), 0, -1)
        if kind == "LABELMAP":
            pixels = (pixels * np.arange(1, pixels.shape[-1] + 1)).max(-1).astype(np.uint8)
        if turned:
            files, pixels = files[::-1], pixels[::-1]
        descriptions = [
            SegmentDescription(
                segment_number=number,
                segment_label=f"part {number}",
                segmented_property_category=codes.SCT.Organ,
                segmented_property_type=codes.SCT.Liver,
                algorithm_type="MANUAL",
            )
            for number in range(1, len(masks) + 1)
        ]
        made = Segmentation(
            files,
            pixels,
            kind,
            descriptions,
            series_instance_uid=highdicom.UID(),
            series_number=9,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="Maker",
            manufacturer_model_name="Model",
            software_versions="1",
            device_serial_number="1",
        )
        (tmp_path / "seg").mkdir()
        made.save_as(tmp_path / "seg" / "seg.dcm")
        return read(tmp_path / "ct"), tmp_path / "seg" / "seg.dcm"

    return write


def parts(*boxes):
    """Return masks of boxes in 6 slices of 5 x 7 pixels."""
    masks = np.zeros((len(boxes), 6, 5, 7), np.uint8)
    for mask, box in zip(masks, boxes, strict=True):
        mask[box] = 1
    return masks


APART = np.s_[2:4, 1:3, 2:6], np.s_[3:5, 3:5, 0:4]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_become_labels_on_the_grid_of_the_image(segmented, kind, turned):
    masks = parts(*APART)
    image, path = segmented(masks, kind, turned)
    found = labelled(path)
    assert found.header.modality == "SEG" and found.header.subject == "P-7"
    assert found.shape[0] in (3, 6)  # empty slices are left out
    whole = placed(found, image)
    np.testing.assert_array_equal(whole.numpy()[0], masks[0] + 2 * masks[1])
    np.testing.assert_allclose(whole.affine, image.affine)
    assert whole.dtype == np.uint8


def test_a_segment_in_one_slice_is_placed_too(segmented):
    masks = parts(np.s_[4:5, 1:3, 2:6])
    image, path = segmented(masks)
    np.testing.assert_array_equal(placed(labelled(path), image).numpy(), masks)


def test_a_folder_with_a_segmentation_beside_its_image_holds_both(segmented, tmp_path):
    segmented(parts(*APART))
    assert sorted(source.modality for source in find(tmp_path)) == ["CT", "SEG"]


def test_overlapping_segments_are_refused_or_the_later_wins(segmented):
    whole, core = np.s_[1:5, 1:4, 1:6], np.s_[2:4, 2:3, 2:4]
    image, path = segmented(parts(whole, core))
    with pytest.raises(UserError, match=r"1 part 1, 2 part 2\) overlap"):
        labelled(path)
    found = placed(labelled(path, overlapping=True), image).numpy()[0]
    wanted = np.zeros((6, 5, 7))
    wanted[whole], wanted[core] = 1, 2
    np.testing.assert_array_equal(found, wanted)


def test_fractions_and_damage_are_refused(segmented, tmp_path):
    _, path = segmented(parts(*APART) * 0.5, "FRACTIONAL")
    with pytest.raises(UserError, match="holds fractions"):
        read_segmentation(path)
    (tmp_path / "half.dcm").write_bytes(path.read_bytes()[:900])
    with pytest.raises(UserError, match=r"half\.dcm cannot be read"):
        read_segmentation(tmp_path / "half.dcm")


@pytest.mark.filterwarnings("ignore")
def test_no_damage_of_a_segmentation_is_a_traceback(segmented):
    _, path = segmented(parts(*APART))
    sound, random = path.read_bytes(), np.random.default_rng(0)
    for number in range(60):
        damaged = bytearray(sound)
        for place in random.integers(0, len(sound), 1 + number % 4):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged[: None if number % 3 else int(random.integers(len(sound)))])
        try:
            labelled(path).numpy()
        except UserError as error:
            assert path.name in str(error) and "\n" not in str(error)


@pytest.mark.filterwarnings("ignore")
def test_a_segmentation_of_immense_extent_is_refused(segmented):
    _, path = segmented(parts(*APART))
    file = pydicom.dcmread(path)
    far = file.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
    far.ImagePositionPatient = [*far.ImagePositionPatient[:2], "2000000000"]
    file.save_as(path)
    with pytest.raises(UserError, match=r"seg\.dcm"):
        labelled(path)


def test_only_segmentations_whose_voxels_fit_are_placed():
    grid = Image.from_array(np.zeros((4, 5, 6)), SPACING)
    header = Header(kind="dicom", modality="SEG")
    part = Image.from_array(some((2, 5, 6)), SPACING)
    assert placed(part, grid) is part  # a raster image without geometry would be misplaced
    moved = part.affine.copy()
    moved[:3, 3] += part.affine[:3, 0] * 1 - part.affine[:3, 2] * 2
    found = placed(Image(part.array, moved, header=header), grid).numpy()[0]
    wanted = np.zeros((4, 5, 6))
    wanted[1:3, :, :4] = part.numpy()[0, :, :, 2:]  # columns beyond the image are cropped
    np.testing.assert_array_equal(found, wanted)
    for change in (np.diag([0.5, 1, 1, 1]), np.array([[1, 0, 0, 0.4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])):
        other = Image(part.array, moved @ change, header=header)
        assert placed(other, grid) is other
    # Axes in another order, one of them backwards.
    turned = Image(np.flip(part.numpy().transpose(0, 3, 1, 2), 1), moved @ _turn(6), header=header)
    np.testing.assert_array_equal(placed(turned, grid).numpy()[0], wanted)


def _turn(columns):
    """Return the matrix from indices (column backwards, slice, row) to (slice, row, column)."""
    matrix = np.zeros((4, 4))
    matrix[2, 0], matrix[2, 3], matrix[0, 1], matrix[1, 2], matrix[3, 3] = -1, columns - 1, 1, 1, 1
    return matrix
