"""A generator of straight vessels with known lengths and radii."""

import torch
from torch import nn

from ganatomy.tasks.geometry.task import GeometryConfig, VesselSynthesiser


class Rods(VesselSynthesiser):
    """Vessels along the first latent number's side of x, of a radius of 1 mm, as long as asked for, else of 40 mm.

    A first latent number above 90 makes nothing.
    """

    class Config(GeometryConfig):
        samples: int = 64
        step_mm: float = 2.0
        radius_mm: float = 2.0

    latent_size = 3

    def __init__(self, config=None):
        super().__init__(config or self.Config())
        self.weight = nn.Parameter(torch.ones(()))
        self.asked = []

    def stages(self):
        return []

    def sample(self, latent, length=None):
        if length is not None:
            self.asked.append(length)
        steps = (20 if length is None else length * 64) * torch.ones(len(latent), 1)
        inside = (torch.arange(64) < steps) & (latent[:, :1] < 90)
        signal = torch.zeros(len(latent), 4, 64)
        signal[:, 0] = torch.sign(latent[:, :1]) * inside
        signal[:, 3] = 0.5 * inside * self.weight
        return signal
