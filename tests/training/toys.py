"""Small methods with known behaviour, and streams that need no data."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ganatomy.game import Method, MethodConfig, Player, Stage, Stream, Turn


class Numbers(Iterator):
    """Batches of random numbers that depend on the number of the batch alone."""

    def __init__(self, drawn=0, size=4, rank=0, world=1):
        self.drawn, self.size, self.rank, self.world = drawn, size, rank, world

    def __next__(self):
        generator = torch.Generator().manual_seed(self.drawn)
        self.drawn += 1
        share = self.size // self.world
        values = torch.randn(self.size, 3, generator=generator)
        return {"x": values[self.rank * share : (self.rank + 1) * share]}


class Toy(Method):
    """A generator and a critic of one layer each, with noise, state, averaging, and dropout."""

    class Config(MethodConfig):
        first_rounds: int = 4
        second_rounds: int = 6
        halflife: float | None = 8.0

    def __init__(self, config=None):
        super().__init__(config or self.Config())
        self.generator = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
        self.critic = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 1))
        self.register_buffer("pool", torch.zeros(3))

    def build_task(self):
        raise NotImplementedError

    def stages(self):
        adam = lambda parameters: torch.optim.Adam(parameters, 1e-2, fused=True)  # noqa: E731
        generator = Player("generator", (self.generator,), adam, ema_halflife=self.config.halflife)
        critic = Player("critic", (self.critic,), adam, schedule=lambda progress: 1 - progress.fraction / 2)
        drawn = Stream("samples", None, 4, (1, 1, 1))
        return [
            Stage("first", self.first, [generator], self.config.first_rounds, drawn),
            Stage("second", self.second, [generator, critic], self.config.second_rounds, drawn),
        ]

    def first(self, batches):
        x = next(batches)["x"]
        yield Turn("generator", error=(self.generator(x) - x).square().mean())

    def second(self, batches):
        for _ in range(2):
            x = next(batches)["x"]
            fake = self.generator(x + self.noise.normal(*x.shape)).detach()
            yield Turn(
                "critic",
                gap=self.critic(fake).mean() - self.critic(x).mean(),
                scores={"real": self.critic(x)},
            )
            with torch.no_grad():
                for parameter in self.critic.parameters():
                    parameter.clamp_(-0.5, 0.5)
        self.pool.lerp_(fake.mean(0), 0.5)
        yield Turn("generator", adversarial=-self.critic(self.generator(next(batches)["x"]) + self.pool).mean())


@dataclass
class Quiet:
    """An observer that records whose turns were taken."""

    turns: list

    def turn(self, progress, turn):
        self.turns.append((progress.round, turn.player))

    def gradients(self, turn, norm): ...

    def watches(self, progress):
        return False

    def round(self, progress): ...
