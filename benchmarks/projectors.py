"""Compare projectors of CT: Joseph's method on torch, ASTRA on the CPU, and scikit-image's rotation.

*Time* is processor time of one slice on one thread, the least of several runs. *Error on a disc* is the
root-mean-square distance from the analytic line integrals, relative to the largest. *Phantom* is the distance of
Joseph's method from ASTRA for a slice of the thorax phantom: relative as above, and in HU after filtered
back-projection. scikit-image has no fan beam and no adjoint; its rays lie elsewhere, so only its time is compared.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from side_by_side import machine
from skimage.transform import radon

from ganatomy.phantoms.thorax import ThoraxCT
from ganatomy.physics.ct import WATER, Beam, FanBeam, ParallelBeam, attenuation_to_hu, hu_to_attenuation

FIELD = 380.0
RADIUS, CENTRE = 110.0, (30.0, 20.0)
SIZES = ((512, 720), (256, 720), (96, 60))
"""Edge of the image in pixels, and number of views: a scanner's, the phantom's, and that of the recorded rounds."""
REPEATS = 3


def fastest(call: Callable[[], Any]) -> tuple[float, Any]:
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        result = call()
        times.append(time.process_time() - start)
    return min(times), result


def disc(size: int) -> np.ndarray:
    """Return the share of each pixel inside the disc."""
    fine = 8
    place = ((np.arange(size * fine) + 0.5) / fine - size / 2) * FIELD / size
    inside = np.hypot(place[None] - CENTRE[0], -place[:, None] - CENTRE[1]) < RADIUS
    return inside.reshape(size, fine, size, fine).mean((1, 3)).astype(np.float32)


def chords(beam: Beam) -> np.ndarray:
    """Return the lengths of rays within the disc in mm."""
    offsets = (np.arange(beam.elements) - (beam.elements - 1) / 2) * beam.pitch
    sideways = np.stack([np.cos(beam.angles), np.sin(beam.angles)], 1)[:, None]
    forward = np.stack([-sideways[..., 1], sideways[..., 0]], -1)
    point = offsets[:, None] * sideways
    ray = np.broadcast_to(forward, point.shape)
    if isinstance(beam, FanBeam):
        point = point + beam.detector_mm * forward
        ray = point + beam.source_mm * forward
    apart = point - np.array(CENTRE)
    impact = (ray[..., 0] * apart[..., 1] - ray[..., 1] * apart[..., 0]) / np.linalg.norm(ray, axis=-1)
    return 2 * np.sqrt(np.maximum(RADIUS**2 - impact**2, 0))


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - wanted) ** 2)) / wanted.max())


def compare(size: int, views: int) -> None:
    pixel = FIELD / size
    image = disc(size)
    mu = hu_to_attenuation(ThoraxCT(0, size, spacing_mm=(3.0, pixel, pixel)).image.slab(0, 1)[0, 0])
    for kind in (ParallelBeam, FanBeam):
        ours, theirs = (kind((size, size), pixel, views, projector=name) for name in ("joseph", "astra"))
        wanted = chords(ours)
        for name, beam in (("joseph", ours), ("astra", theirs)):
            forward, rays = fastest(lambda beam=beam: beam.project(image))
            back, _ = fastest(lambda beam=beam, rays=rays: beam.backproject(rays))
            print(
                f"| {size} x {views} | {kind.__name__} | {name} "
                f"| {forward:.3f} | {back:.3f} | {error(rays, wanted):.1e} |",
                flush=True,
            )
        both = [beam.project(mu) for beam in (ours, theirs)]
        hu = [attenuation_to_hu(ours.fbp(rays, "hann"), WATER) for rays in both]
        change = np.abs(hu[0] - hu[1])
        print(
            f"  phantom: sinogram {error(*both):.1e}, HU rms {np.sqrt(np.mean(change**2)):.3f}, max {change.max():.2f}"
        )
    beam = ParallelBeam((size, size), pixel, views)
    took, _ = fastest(lambda: radon(image, np.rad2deg(beam.angles), circle=False))
    print(f"| {size} x {views} | ParallelBeam | scikit-image | {took:.3f} | | |")


def main() -> None:
    torch.set_num_threads(1)
    print(machine())
    print("| image x views | beam | projector | project, s | adjoint, s | error on a disc |\n|---|---|---|---|---|---|")
    for size, views in SIZES:
        compare(size, views)


if __name__ == "__main__":
    main()
