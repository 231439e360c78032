"""Differentiable warping of volumes: an affine map of 12 parameters and a dense field of displacements.

Maps go from positions in the output to positions in the volume that is sampled, both with corner voxels at -1 and 1
(``align_corners=True`` throughout, so that a map without parameters changes nothing). Vectors are (x, y, z): columns,
rows, slices. Outside of the volume are zeros.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def centre_of_mass(volume: Tensor) -> Tensor:
    """Return the centre of mass (x, y, z) of volumes (N, C, D, H, W), whose values are not negative; shape (N, 3)."""
    mass = volume.sum(1)
    axes = [torch.linspace(-1, 1, extent, device=volume.device, dtype=volume.dtype) for extent in volume.shape[2:]]
    total = mass.flatten(1).sum(1).clamp_min(1e-6)
    parts = [
        (mass.sum([1 + other for other in range(3) if other != axis]) * places).sum(1) / total
        for axis, places in enumerate(axes)
    ]
    return torch.stack(parts[::-1], 1)


def affine_matrix(parameters: Tensor, centre: Tensor) -> Tensor:
    """Return the affine maps of parameters, after the release of Dong et al., doi 10.1016/j.media.2020.101638.

    A position is translated, and then rotated, scaled and sheared around the centre.

    Args:
        parameters: (N, 12): translation along x, y, z as a share of half the volume; rotation about x, y, z and shear
            xy, xz, yz, in multiples of π; and scale along x, y, z, as twice the difference to 1. 0 changes nothing.
        centre: position (x, y, z) that rotation, scale and shear keep, (N, 3).

    Returns:
        Matrices (N, 3, 4), as `torch.nn.functional.affine_grid` takes them.
    """
    moved, turns, shears, scales = (parameters[:, first : first + 3] for first in (0, 3, 6, 9))
    one, zero = torch.ones_like(parameters[:, 0]), torch.zeros_like(parameters[:, 0])

    def matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, 1) for row in rows], 1)

    (cx, cy, cz), (sx, sy, sz) = ((math.pi * turns).cos().unbind(1), (math.pi * turns).sin().unbind(1))
    about_x = matrix((one, zero, zero), (zero, cx, -sx), (zero, sx, cx))
    about_y = matrix((cy, zero, sy), (zero, one, zero), (-sy, zero, cy))
    about_z = matrix((cz, -sz, zero), (sz, cz, zero), (zero, zero, one))
    xy, xz, yz = (math.pi * shears).unbind(1)
    sheared = matrix((one, xy, xz), (zero, one, yz), (zero, zero, one))
    linear = sheared @ torch.diag_embed(1 + 0.5 * scales) @ about_z @ about_y @ about_x
    offset = linear @ (moved - centre)[..., None] + centre[..., None]
    return torch.cat([linear, offset], 2)


def positions(matrix: Tensor, field: Tensor | None, extents: tuple[int, int, int]) -> Tensor:
    """Return where every voxel of the output is sampled, (N, D, H, W, 3) as (x, y, z) from -1 to 1.

    Args:
        matrix: affine maps, (N, 3, 4).
        field: displacements (x, y, z) in voxels of the output, (N, 3, D, H, W), which come before the affine map.
        extents: size of the output (D, H, W).
    """
    if field is None:
        return affine_grid(matrix, [len(matrix), 1, *extents], align_corners=True)
    identity = torch.eye(3, 4, device=matrix.device, dtype=matrix.dtype).expand_as(matrix)
    grid = affine_grid(identity, [len(matrix), 1, *extents], align_corners=True)
    steps = torch.tensor([2 / max(extent - 1, 1) for extent in reversed(extents)], device=grid.device)
    grid = grid + field.movedim(1, -1) * steps
    return grid @ matrix[:, None, None, :, :3].mT + matrix[:, None, None, None, :, 3]


def warp(volume: Tensor, places: Tensor) -> Tensor:
    """Sample volumes (N, C, D, H, W) linearly at `positions`, with zeros outside."""
    return grid_sample(volume, places, mode="bilinear", padding_mode="zeros", align_corners=True)


def smoothness(field: Tensor) -> Tensor:
    """Return the mean squared forward difference of displacements (N, 3, D, H, W), averaged over the three axes."""
    return torch.stack([field.diff(dim=axis).square().mean() for axis in (2, 3, 4)]).mean()
