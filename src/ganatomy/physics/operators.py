"""CT projection as a differentiable torch layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganatomy.physics.ct import Beam

Map = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class _Linear(torch.autograd.Function):
    """Linear map of numpy arrays whose gradient is its adjoint; differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, forward: Map, adjoint: Map) -> torch.Tensor:
        ctx.maps = (forward, adjoint)
        planes = x.detach().cpu().float().reshape(-1, *x.shape[-2:]).numpy()
        result = torch.from_numpy(np.stack([forward(plane) for plane in planes]))
        return result.reshape(*x.shape[:-2], *result.shape[-2:]).to(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        forward, adjoint = ctx.maps
        return _apply(gradients[0], adjoint, forward), None, None


def _apply(x: torch.Tensor, forward: Map, adjoint: Map) -> torch.Tensor:
    result: torch.Tensor = _Linear.apply(x, forward, adjoint)  # type: ignore[no-untyped-call]
    return result


class ProjectionLayer(torch.nn.Module):
    """CT projection of tensors (…, rows, columns) in mm⁻¹ to line integrals (…, views, detectors).

    Computed on the CPU in float32 whatever the tensor's device and type. The layer has no parameters.
    """

    def __init__(self, beam: Beam) -> None:
        super().__init__()
        self.beam = beam

    def forward(self, mu: torch.Tensor) -> torch.Tensor:
        """Project (…, rows, columns) to (…, views, detectors)."""
        return _apply(mu, self.beam.project, self.beam.backproject)

    def adjoint(self, sinogram: torch.Tensor) -> torch.Tensor:
        """Back-project (…, views, detectors) to (…, rows, columns)."""
        return _apply(sinogram, self.beam.backproject, self.beam.project)
