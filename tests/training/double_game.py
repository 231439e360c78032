"""A small Wasserstein game in double precision: python double_game.py PROCESSES WEIGHTS."""

import sys

import torch
from lightning_fabric import Fabric
from torch import nn
from toys import Numbers, Quiet

from ganatomy.game import Method, MethodConfig, Noise, Player, Stage, Stream, Turn
from ganatomy.training.loop import Trainer


class Wasserstein(Method):
    def __init__(self):
        super().__init__(MethodConfig())
        self.generator = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
        self.critic = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def build_task(self):
        raise NotImplementedError

    def stages(self):
        adam = lambda parameters: torch.optim.Adam(parameters, 1e-2, fused=True)  # noqa: E731
        players = [Player("generator", (self.generator,), adam), Player("critic", (self.critic,), adam)]
        return [Stage("play", self.turns, players, 20, Stream("samples", None, 4, (1, 1, 1)))]

    def turns(self, batches):
        for _ in range(2):
            real = next(batches)["x"].double()
            fake = self.generator(self.noise.normal(*real.shape).double()).detach()
            mix = self.noise.uniform(len(real), 1)
            point = (real + mix * (fake - real)).requires_grad_()
            (slope,) = torch.autograd.grad(self.critic(point).sum(), point, create_graph=True)
            penalty = (slope.norm(dim=1) - 1).square().mean()
            yield Turn("critic", gap=self.critic(fake).mean() - self.critic(real).mean(), penalty=10 * penalty)
        noise = self.noise.normal(*next(batches)["x"].shape).double()
        yield Turn("generator", adversarial=-self.critic(self.generator(noise)).mean())


def main(processes, weights):
    fabric = Fabric(accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto")
    fabric.launch()
    torch.manual_seed(0)
    method = Wasserstein().double()
    method.noise = Noise(0, fabric.global_rank, fabric.world_size)
    stream = lambda stage, index, drawn: Numbers(drawn, 4, fabric.global_rank, fabric.world_size)  # noqa: E731
    Trainer(method, fabric, [20], stream, Quiet([]), lambda trainer, ending: None).fit()
    if fabric.global_rank == 0:
        torch.save(method.state_dict(), weights)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
