"""Whether what lies around an image is air, for every kind of images its own, on the way in and on the way back."""

import numpy as np
import pytest

from ganatomy.images.frames import Frame
from ganatomy.images.image import Image
from ganatomy.methods.frameworks.pix2pix import Pix2Pix


@pytest.mark.parametrize(
    ("ct", "air"),
    [({"window": (-900.0, 600.0)}, -900.0), ({"scale": "percentile"}, -1000.0), ({"scale": "zscore"}, -1000.0)],
)
def test_images_are_filled_up_with_their_own_air(ct, air):
    method = Pix2Pix(Pix2Pix.Config.preset("small", source="mr", target="ct", size=(32, 64), ct=ct))
    values = np.random.default_rng(0).uniform(50, 900, (3, 20, 12)).astype(np.float32)
    spacing = (4.0, 1.5, 1.5)
    images = {"mr": Image.from_array(values, spacing, "a.u."), "ct": Image.from_array(values, spacing, "HU")}
    sample = method.task.frame(images)
    for role, around in (("mr", 0.0), ("ct", air)):
        array = np.asarray(sample.arrays[role])[0]
        assert array.shape == (3, 32, 64)
        assert (array[:, :, :20] == around).all() and (array[:, :, -20:] == around).all(), role
        assert array[:, :, 28:36].min() >= 50, role


def test_voxels_that_a_made_image_does_not_reach_are_air():
    method = Pix2Pix(Pix2Pix.Config.preset("small", source="mr", target="ct", size=(32, 32), fit="cover"))
    given = Image.from_array(np.full((2, 32, 48), 500, np.float32), (4.0, 1.5, 1.5), "a.u.")
    frame = Frame.plan(given, "axial", None, (32, 32), "cover")
    role = method.task.roles["ct"]
    made = role.value(np.full((1, 2, 32, 32), 40, np.float32), frame, given).numpy()[0]
    assert made.shape == (2, 32, 48) and made[..., 8:40].min() == 40
    assert (made[..., :8] == role.scale.low).all() and (made[..., 40:] == role.scale.low).all() and role.scale.low < 0
