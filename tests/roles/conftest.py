import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ganatomy.images.image import Header, Image

WORLD = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
SHAPE, SPACING = (4, 6, 9), (2.5, 0.8, 1.1)


@pytest.fixture(params=["SPL", "PIR", "LPS", "ASR-oblique"])
def affine(request):
    """Return the affine from (slice, row, column) to mm of a volume whose axes point to these sides of the patient."""
    matrix = np.zeros((4, 4))
    for axis, side in enumerate(request.param[:3]):
        world, sign = WORLD[side]
        matrix[world, axis] = sign * SPACING[axis]
    if request.param.endswith("oblique"):
        matrix[:3, :3] = Rotation.from_euler("xyz", (14, -9, 6), degrees=True).as_matrix() @ matrix[:3, :3]
    matrix[:, 3] = (-20.5, 31.25, 8.0, 1.0)
    return matrix


@pytest.fixture
def volume(affine):
    """Return a function that makes an image of 4 x 6 x 9 voxels in one of four orientations."""

    def make(values=None, unit=None, **header):
        values = np.zeros(SHAPE) if values is None else np.asarray(values)
        return Image(values.reshape(-1, *SHAPE), affine, unit, Header(**header))

    return make
