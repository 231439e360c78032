import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from ganatomy.case import Preparation
from ganatomy.errors import UserError
from ganatomy.images.files import find
from ganatomy.images.image import Image
from ganatomy.roles.instances import InstanceRole, ObjectRole, edges

CELLS = InstanceRole("cells")


def discs(shape=(1, 40, 52), dtype=np.uint16, first=1):
    """Return a map of twelve discs of 11 pixels, in rows, with numbers from ``first``."""
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    image = np.zeros(shape, dtype)
    for number in range(12):
        row, column = divmod(number, 4)
        image[:, (rows - 13 * row - 6) ** 2 + (columns - 13 * column - 6) ** 2 <= 25] = first + number
    return image


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal", "stored"])
def test_numbers_come_back_on_their_own_grid(volume, plane):
    values = np.random.default_rng(0).integers(0, 60000, (4, 6, 9)).astype(np.uint16)
    image = volume(values)
    frame = CELLS.plan(image, Preparation(plane=plane))
    array = np.asarray(CELLS.array(image, frame))
    assert array.dtype == np.uint16 and array.shape == (1, *frame.size)
    back = CELLS.value(array, frame, image)
    np.testing.assert_array_equal(back.numpy()[0], values)
    np.testing.assert_array_equal(back.affine, image.affine)


@pytest.mark.parametrize(
    ("dtype", "stored"), [(np.uint8, np.uint16), (np.int16, np.uint16), (np.int32, np.uint32), (np.float32, np.uint32)]
)
def test_numbers_are_as_wide_as_their_source_may_need(dtype, stored):
    array = CELLS.array(Image.from_array(discs().astype(dtype)), None)
    assert array.dtype == stored == CELLS.stored(array.dtype)
    np.testing.assert_array_equal(np.asarray(array)[0], discs())


@pytest.mark.parametrize("first", [1, 70000, 3_000_000])
def test_resampling_keeps_numbers_and_places_of_objects(first):
    image = Image.from_array(discs(dtype=np.uint32, first=first), (1.0, 0.5, 0.5))
    frame = CELLS.plan(image, Preparation(spacing=(1.0, 0.8, 0.4)))
    array = np.asarray(CELLS.array(image, frame))
    assert set(np.unique(array)) == set(np.unique(image.numpy()))
    for number in range(first, first + 12):
        # To a quarter of a pixel, since edges fall on either side of one.
        old, new = (np.argwhere(values == number).mean(0)[1:] for values in (image.numpy(), array))
        mm = frame.points(np.atleast_2d(new))
        centre = image.affine[:3, :3] @ old + image.affine[:3, 3]
        np.testing.assert_allclose(mm[0], centre, atol=0.125)


@pytest.mark.parametrize("values", [[[-1, 2]], [[0.5, 2.0]], [[0.0, np.nan]], [[0.0, 2.0**33]]])
def test_what_is_no_number_of_an_object_is_refused(values):
    with pytest.raises(UserError, match="numbers of objects"):
        np.asarray(CELLS.array(Image.from_array(np.array(values)), None))


def test_patches_keep_numbers():
    values = discs()[None]
    patch = CELLS.cut(values, (0, -3, 20), (1, 24, 40))
    assert patch.shape == (1, 1, 24, 40) and set(np.unique(patch)) <= set(np.unique(values))
    np.testing.assert_array_equal(patch[0, 0, 3:, :32], values[0, 0, :21, 20:])
    for axes in ((1,), (2,), (1, 2)):
        flipped = CELLS.flip(values, axes)
        np.testing.assert_array_equal(flipped, np.flip(values, [1 + axis for axis in axes]))
        np.testing.assert_array_equal(CELLS.flip(flipped, axes), values)


def test_tensors_hold_all_numbers():
    values = np.array([0, 2**24 + 1, 2**32 - 1], np.uint32).reshape(1, 1, 1, 3)
    tensor = CELLS.tensor(values, 2)
    assert tensor.shape == (1, 1, 3) and tensor.dtype == torch.int64
    assert tensor.flatten().tolist() == [0, 2**24 + 1, 2**32 - 1]
    example = CELLS.example((4, 5), torch.Generator().manual_seed(0))
    assert example.shape == (1, 4, 5) and example.dtype == torch.int64 and example.max() > 0


def test_outlines_part_objects_that_touch():
    values = np.array([[0, 0, 0, 0, 0, 0], [0, 3, 3, 3, 5, 5], [0, 3, 3, 3, 5, 5], [0, 3, 3, 3, 5, 5]])[None]
    (name,) = outlines = CELLS.overlay(values)
    assert name == "objects"
    wanted = [[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 0], [0, 1, 0, 1, 1, 0]]
    np.testing.assert_array_equal(outlines["objects"], wanted)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.tif", "a.png"])
def test_what_is_written_is_read_again(tmp_path, name):
    CELLS.write(tmp_path / name, Image.from_array(discs(first=300)))
    (source,) = find(tmp_path / name)
    read = CELLS.source(name, tmp_path, lambda path: source).open()
    np.testing.assert_array_equal(read.numpy()[0], discs(first=300))
    assert read.dtype == np.uint16


OBJECTS = ObjectRole("cells", {"background": (0,), "interior": (1,), "edge": (2,)})


def test_edges_are_what_an_erosion_of_every_object_removes():
    numbers = np.zeros((1, 1, 9, 12), np.uint16)
    numbers[..., 1:6, 0:5], numbers[..., 1:6, 5:9], numbers[..., 8, 11] = 7, 3, 5
    edge = np.zeros((9, 12), bool)
    for number in (7, 3, 5):
        inside = numbers[0, 0] == number
        edge |= inside & ~binary_erosion(inside, np.ones((3, 3)), border_value=1)
    np.testing.assert_array_equal(edges(numbers)[0, 0], edge)
    inside = OBJECTS.indicators(numbers)
    np.testing.assert_array_equal(inside[2, 0], edge)
    np.testing.assert_array_equal(inside[1, 0], (numbers[0, 0] > 0) & ~edge)
    np.testing.assert_array_equal(inside.sum(0), np.ones((1, 9, 12)))
    assert edge[2, 4] and edge[2, 5] and not edge[2, 0], "cut at the border of the image, which is no edge"


def test_objects_are_one_region_where_no_region_is_their_edge():
    role = ObjectRole("cells", {"inside": (1,)})
    numbers = discs()[None]
    assert not role.has_edges and set(np.unique(role.classes(numbers))) == {0, 1}
    tensor = role.tensor(numbers, 2)
    assert tensor.shape == (1, 40, 52) and tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor[0], numbers[0, 0] > 0)
    whole = ObjectRole("cells", {"cell": (1, 2)})
    np.testing.assert_array_equal(whole.tensor(numbers, 2), tensor)


def test_object_maps_are_read_as_instance_maps_are():
    image = Image.from_array(discs(dtype=np.uint32, first=70000))
    array = OBJECTS.array(image, None)
    assert array.dtype == np.uint32 and set(np.unique(np.asarray(array))) == {0, *range(70000, 70012)}
    assert OBJECTS.prepared_as == ObjectRole("cells").prepared_as and OBJECTS.segments == {}
    assert OBJECTS.overlay(discs())["objects"].any()
