import numpy as np
import pytest

from ganatomy.case import Task
from ganatomy.images.image import Image
from ganatomy.roles.expectations import BRAIN_EXTRACTED, REGISTERED, spaced
from ganatomy.roles.image import ImageRole

SAID = "the image in memory (t1) should be"


class Brains(Task):
    """Task with brain-extracted images of a fixed spacing."""

    name = "brains"
    given = "t1"
    expects = {"t1": (BRAIN_EXTRACTED, spaced(None, 1.0, 1.0), REGISTERED)}  # noqa: RUF012
    roles = {"t1": ImageRole("t1")}  # noqa: RUF012
    phantom_grid = directions = selection = scores = None


Brains.__abstractmethods__ = frozenset()


def brain(spacing=(3.0, 1.0, 1.0), air=0.0):
    values = np.random.default_rng(0).normal(100, 10, (3, 12, 14)).astype(np.float32)
    values[:, :5] = air if not air else np.random.default_rng(1).normal(air, 1, (3, 5, 14))
    return Image.from_array(values, spacing)


@pytest.mark.parametrize(
    ("image", "notes"),
    [
        (brain(), []),
        (brain(air=3.0), [f"{SAID} brain-extracted, but only 1% of its middle slice is empty"]),
        (brain((3.0, 1.0, 1.4)), [f"{SAID} spaced 1 x 1 mm, but its voxels measure 3 x 1 x 1.4 mm"]),
    ],
)
def test_what_is_not_as_expected_is_said(image, notes):
    assert list(Brains().frame({"t1": image}).notes) == notes
