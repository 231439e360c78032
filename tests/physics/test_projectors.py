import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.physics.ct import Beam, FanBeam, LowDoseScan, ParallelBeam
from ganatomy.physics.projectors import BLOCK, Joseph

BEAMS: dict[str, type[Beam]] = {"parallel": ParallelBeam, "fan": FanBeam}


def smooth_image(shape: tuple[int, int]) -> np.ndarray:
    """Return two discs with edges a few pixels wide, in attenuation per mm."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    large, small = np.hypot(x[None], y[:, None]), np.hypot(x[None] - 9, y[:, None] + 5)
    edge = shape[0] / 3
    return (0.02 / (1 + np.exp(large - edge)) + 0.02 / (1 + np.exp(small - edge / 4))).astype(np.float32)


def test_rays_along_columns_rows_and_diagonals_sum_the_pixels_they_meet() -> None:
    image = np.random.default_rng(0).random((6, 6), np.float32)
    beam = ParallelBeam((6, 6), 2.0, 4, detectors=5, pitch_mm=2.0)
    # Five rays lie between the pixels of six columns, and each takes the mean of its neighbours.
    between = image[:, :-1] + image[:, 1:]
    along_rows = image[:-1] + image[1:]
    rays = beam.project(image)
    np.testing.assert_allclose(rays[0], between.sum(0), rtol=1e-5)
    np.testing.assert_allclose(rays[2], along_rows.sum(1)[::-1], rtol=1e-5)
    assert rays[1, 2] == pytest.approx(2 * np.sqrt(2) * np.trace(image), rel=1e-5)


@pytest.mark.parametrize("kind", BEAMS)
def test_the_adjoint_is_the_transposed_matrix(kind: str) -> None:
    beam = BEAMS[kind]((5, 7), 1.5, 6)
    matrix = np.stack([beam.project(pixel.reshape(5, 7)).ravel() for pixel in np.eye(35, dtype=np.float32)], 1)
    rays = np.eye(matrix.shape[0], dtype=np.float32).reshape(-1, 6, beam.elements)
    transposed = np.stack([beam.backproject(ray).ravel() for ray in rays], 1)
    np.testing.assert_allclose(transposed, matrix.T, atol=1e-6)


@pytest.mark.parametrize("kind", BEAMS)
def test_a_scan_is_sampled_in_blocks_that_hold_every_ray_once(kind: str) -> None:
    beam = BEAMS[kind]((40, 50), 1.0, 30)
    blocks = list(beam._projector()._blocks())  # type: ignore[attr-defined]
    assert {block.axis for block in blocks} == {0, 1}
    assert max(len(block.rays) for block in blocks) <= BLOCK
    rays = np.concatenate([block.rays.numpy() for block in blocks])
    np.testing.assert_array_equal(np.sort(rays), np.arange(30 * beam.elements))


def test_images_that_cannot_be_written_to_are_projected() -> None:
    beam = ParallelBeam((8, 8), 1.0, 3)
    image = np.ones((8, 8), np.float32)
    image.setflags(write=False)
    rays = beam.project(image)
    rays.setflags(write=False)
    assert beam.backproject(rays).shape == (8, 8)


def test_joseph_is_the_default_and_imports_no_astra() -> None:
    words = (
        "import sys; sys.modules['astra'] = None\n"
        "import numpy as np; from ganatomy.physics.ct import LowDoseScan\n"
        "print(LowDoseScan(views=4).acquire(np.zeros((1, 8, 8)), (1, 1), 0).shape)"
    )
    result = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "(1, 8, 8)"
    assert isinstance(ParallelBeam((8, 8), 1.0, 4)._projector(), Joseph)


def test_astra_that_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "astra", None)
    with pytest.raises(UserError, match=r"pip install 'ganatomy\[astra\]'"):
        LowDoseScan(views=4, projector="astra").acquire(np.zeros((1, 8, 8)), (1, 1), 0)


@pytest.mark.parametrize(("kind", "tolerance"), [("parallel", 1e-4), ("fan", 1.5e-2)])
def test_astra_agrees(kind: str, tolerance: float) -> None:
    pytest.importorskip("astra")
    ours = BEAMS[kind]((96, 80), 1.5, 30)
    theirs = replace(ours, projector="astra")
    rays = ours.project(smooth_image(ours.shape))
    assert np.abs(theirs.project(smooth_image(ours.shape)) - rays).max() < tolerance * rays.max()
    spread = ours.backproject(rays)
    # ASTRA sums the lengths of fan rays within pixels, which makes a pattern where they are spread over the image.
    middle = (slice(30, 66), slice(25, 55))
    mean = theirs.backproject(rays)[middle].mean()
    assert mean == pytest.approx(spread[middle].mean(), rel=1e-2)


@pytest.mark.parametrize("kind", BEAMS)
def test_astra_has_an_exact_adjoint_too(kind: str) -> None:
    pytest.importorskip("astra")
    beam = BEAMS[kind]((17, 12), 1.5, 9, projector="astra")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(beam.shape, np.float32), rng.standard_normal((9, beam.elements), np.float32)
    rays = beam.project(x).astype(np.float64)
    assert abs(np.vdot(rays, y) - np.vdot(x, beam.backproject(y).astype(np.float64))) < 1e-5 * np.linalg.norm(
        rays
    ) * np.linalg.norm(y)
