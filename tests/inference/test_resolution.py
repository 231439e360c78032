import numpy as np
import pytest

from ganatomy.case import Case, Preparation
from ganatomy.images.image import Image
from ganatomy.inference.resolution import resolution
from ganatomy.roles.image import ImageOptions
from ganatomy.tasks.synthesis.task import Synthesis


def framed(size, spacing, shape=(3, 48, 36), fit="cover"):
    """Return the preparation of images of a size, and an image of that spacing on its grid."""
    task = Synthesis({"image": ImageOptions(unit=None, window=(0, 255))}, size, fit)
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    image = Image.from_array(values, spacing)
    return task.preparation, task.frame({"image": image}, Case("a", "p", "train", {}))


def test_pixels_are_told_in_number_and_mm():
    preparation, sample = framed((12, 9), (5.0, 0.5, 0.5))
    said = resolution(preparation, [sample])
    assert said == "networks see images of 12 × 9 pixels at 2 mm per pixel; finer detail is neither seen nor made"
    _, other = framed((12, 9), (5.0, 0.75, 0.75))
    assert "at 2 to 3 mm per pixel" in resolution(preparation, [other, sample])


def test_volumes_have_lengths_along_all_axes():
    preparation, sample = framed((3, 24, 18), (6.0, 0.5, 0.5), fit="contain")
    assert resolution(preparation, [sample]).startswith("networks see images of 3 × 24 × 18 voxels at ")
    assert "mm per voxel" in resolution(preparation, [sample])


def test_sizes_that_no_file_states_are_unknown():
    preparation, sample = framed((12, 9), (1.0, 1.0, 1.0))
    assert "12 × 9 pixels at an unknown size in mm per pixel" in resolution(preparation, [sample])
    assert "at 4 mm per pixel" in resolution(preparation, [sample], known=True)


def test_resampled_images_of_any_size_are_told_by_their_spacing():
    preparation, sample = framed((12, 9), (5.0, 2.0, 2.0))
    spaced = preparation.model_copy(update={"size": None, "spacing": (5.0, 8.0, 8.0)})
    assert resolution(spaced, [sample]).startswith("networks see images at 5 × 8 × 8 mm per voxel")


@pytest.mark.parametrize(
    "preparation", [Preparation(), Preparation(size=(12, 9), fit="patches"), Preparation(size=(64,))]
)
def test_nothing_is_said_where_networks_see_the_pixels_of_the_data(preparation):
    assert resolution(preparation, [framed((12, 9), (5.0, 0.5, 0.5))[1]]) == ""
