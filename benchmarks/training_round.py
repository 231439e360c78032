"""Time a training round of ganatomy's trainer against the same networks in hand-written loops.

All of them train for the same round on the same batch in memory: same networks, losses, sizes, data type and threads,
no I/O.

*Bare* is what an expert would write for this method alone: the method's own turns in their order, the backward pass
restricted to the player's parameters, fused Adam, no logging.

*Usual* is the loop of common pix2pix and WGAN-GP repositories: gradients of all weights that the loss reaches are
computed, also those that the next ``zero_grad`` discards; the generator runs again for every player that needs its
output, with its graph although only values are used; Adam is the default one; every loss is read with ``.item()`` at
every step. *Toggling* is the most efficient variant of it: one forward pass of the generator, and the discriminator
frozen in the generator's turn.
"""

import sys
from collections.abc import Callable, Iterator

import torch
from lightning_fabric import Fabric
from side_by_side import HEAD, compare, interleaved, machine
from torch import Tensor, nn

from ganatomy.game import Batch, Method, Stage, moves
from ganatomy.losses.adversarial import (
    gradient_penalty,
    least_squares_discriminator,
    least_squares_generator,
    wasserstein_critic,
    wasserstein_generator,
)
from ganatomy.methods.denoising.sagan_ct import SAGAN
from ganatomy.methods.denoising.wgan_vgg import WGANVGG
from ganatomy.training.loop import Trainer
from ganatomy.training.monitor import Monitor


class Fixed(Iterator[Batch]):
    """Iterator that returns the same batch without end."""

    def __init__(self, batch: Batch):
        self.batch, self.drawn = batch, 0

    def __next__(self) -> Batch:
        self.drawn += 1
        return self.batch


def ours(method: Method, batch: Batch) -> Callable[[], None]:
    """Return a function that trains for one round with ganatomy's trainer and its monitor, without a run folder."""
    stage = method.stages()[-1]

    def nothing(trainer: Trainer, ending: bool) -> None: ...

    trainer = Trainer(
        method,
        Fabric(accelerator="cpu", devices=1),
        [10**9] * len(method.stages()),
        lambda *_: Fixed(batch),
        Monitor(None),
        nothing,
    )
    trainer.index = len(trainer.stages) - 1
    trainer._enter(stage)
    return trainer._play_round


def bare(method: Method, batch: Batch) -> Callable[[], None]:
    """Return a function that trains for one round with the bare loop."""
    stage: Stage = method.stages()[-1]
    parameters = {player.name: player.parameters() for player in stage.players}
    optimizers = {player.name: player.optimizer(parameters[player.name]) for player in stage.players}
    method.train()

    def step() -> None:
        for (turn,) in moves(stage.turns(Fixed(batch))):
            losses = list(turn.losses.values())
            sum(losses[1:], losses[0]).backward(inputs=parameters[turn.player])
            optimizers[turn.player].step()
            optimizers[turn.player].zero_grad(set_to_none=True)

    return step


class Usual:
    """Base class of the usual loops: default Adam, all gradients, and every loss read at every step."""

    def __init__(self, method: Method, batch: Batch):
        self.method, self.batch = method.train(), batch
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def optimizer(self, name: str, network: nn.Module, learning_rate: float, betas: tuple[float, float]) -> None:
        """Give a player the default Adam."""
        self.optimizers[name] = torch.optim.Adam(network.parameters(), learning_rate, betas)

    def step(self, name: str, losses: list[Tensor], log: list[float]) -> None:
        """Compute gradients of all weights, update one player, and read every loss."""
        self.optimizers[name].zero_grad()
        sum(losses[1:], losses[0]).backward()
        self.optimizers[name].step()
        log.extend(loss.item() for loss in losses)


class UsualPix2Pix(Usual):
    """Usual loop of pix2pix: discriminator, then generator, each with its own forward pass; nothing is frozen."""

    def __init__(self, method: SAGAN, batch: Batch):
        super().__init__(method, batch)
        c = method.config
        self.optimizer("generator", method.generator, c.learning_rate, (c.beta1, 0.999))
        self.optimizer("discriminator", method.discriminator, c.learning_rate, (c.beta1, 0.999))

    def __call__(self) -> None:
        """Train for one round."""
        method, c, log = self.method, self.method.config, []
        low, target = self.batch["input"], self.batch["target"]
        fake = method.restore(low)
        real_scores = method.discriminator(torch.cat([low, target], dim=1))
        fake_scores = method.discriminator(torch.cat([low, fake.detach()], dim=1))
        self.step("discriminator", [least_squares_discriminator(real_scores, fake_scores)], log)
        log += [real_scores.mean().item(), fake_scores.mean().item()]
        fake = method.restore(low)
        scores = method.discriminator(torch.cat([low, fake], dim=1))
        losses = [
            c.pixel_weight * nn.functional.l1_loss(fake, target),
            c.adversarial_weight * least_squares_generator(scores),
        ]
        self.step("generator", losses, log)


class UsualToggling(UsualPix2Pix):
    """Most efficient usual loop of pix2pix: one forward pass, and the discriminator frozen in the generator's turn."""

    def __call__(self) -> None:
        """Train for one round."""
        method, c, log = self.method, self.method.config, []
        low, target = self.batch["input"], self.batch["target"]
        fake = method.restore(low)
        method.discriminator.requires_grad_(True)
        real_scores = method.discriminator(torch.cat([low, target], dim=1))
        fake_scores = method.discriminator(torch.cat([low, fake.detach()], dim=1))
        self.step("discriminator", [least_squares_discriminator(real_scores, fake_scores)], log)
        log += [real_scores.mean().item(), fake_scores.mean().item()]
        method.discriminator.requires_grad_(False)
        scores = method.discriminator(torch.cat([low, fake], dim=1))
        losses = [
            c.pixel_weight * nn.functional.l1_loss(fake, target),
            c.adversarial_weight * least_squares_generator(scores),
        ]
        self.step("generator", losses, log)
        method.discriminator.requires_grad_(True)


class UsualWGAN(Usual):
    """Usual loop of WGAN-GP: critic steps on detached fakes, computed with their graph; then the generator."""

    def __init__(self, method: WGANVGG, batch: Batch):
        super().__init__(method, batch)
        c = method.config
        self.optimizer("generator", method.generator, c.learning_rate, c.betas)
        self.optimizer("critic", method.critic, c.learning_rate, c.betas)

    def __call__(self) -> None:
        """Train for one round."""
        method, c, log = self.method, self.method.config, []
        low, target = self.batch["input"], self.batch["target"]
        for _ in range(c.critic_steps):
            fake = method.restore(low).detach()
            real_scores, fake_scores = method.critic(target), method.critic(fake)
            mix = method.noise.uniform(len(fake))
            penalty = c.penalty_weight * gradient_penalty(method.critic, target, fake, mix)
            self.step("critic", [wasserstein_critic(real_scores, fake_scores), penalty], log)
            log += [real_scores.mean().item(), fake_scores.mean().item()]
        fake = method.restore(low)
        content = method.content(fake, target)
        self.step("generator", [wasserstein_generator(method.critic(fake)), content], log)


def rows(what: str, make: Callable[[], Method], batch: Batch, usual: dict[str, type[Usual]], goals: dict[str, float],
         repeats: int) -> Iterator[str]:  # fmt: skip
    """Yield the table rows of one system: against the bare loop and against every usual one."""

    def fresh() -> Method:
        torch.manual_seed(0)
        return make()

    cases = {"ours": ours(fresh(), batch), "bare": bare(fresh(), batch)}
    cases |= {name: kind(fresh(), batch) for name, kind in usual.items()}
    times = interleaved(cases, repeats)
    for name in list(cases)[1:]:
        yield str(compare(f"{what}, against the {name} loop", times, "ours", name, goals[name]))


def images(count: int, side: int, margin: int = 0) -> Batch:
    """Return a batch of noise images, the input wider than the target by a margin on every side."""
    torch.manual_seed(1)
    wide = torch.rand(count, 1, side + 2 * margin, side + 2 * margin)
    return {"input": wide, "target": wide[..., margin : margin + side, margin : margin + side].clone()}


def main(repeats: int = 20) -> None:
    """Print the table of ratios."""
    # On a shared machine, threads that wait for each other would add the load of other programs to the times.
    torch.set_num_threads(1)
    print(f"Training rounds, {machine()}, median of {repeats} repeats taken in turns\n\n{HEAD}")
    pix2pix = {"usual": UsualPix2Pix, "toggling": UsualToggling}
    goals = {"bare": 1.02, "usual": 0.6, "toggling": 0.6}
    wide = {"levels": 7, "width": 64, "discriminator_width": 64, "batch_size": 1, "patch": 128, "sharpness_weight": 0.0}
    plans = [
        ("sagan-ct (pix2pix) 128², width 64, batch 1", lambda: SAGAN(SAGAN.Config(**wide)), images(1, 128), pix2pix),
        (
            "sagan-ct small 96², width 16, batch 4",
            lambda: SAGAN(SAGAN.Config.preset("small", sharpness_weight=0.0)),
            images(4, 96),
            pix2pix,
        ),
        (
            "wgan-vgg small 48², batch 8",
            lambda: WGANVGG(WGANVGG.Config.preset("small")),
            images(8, 48, 8),
            {"usual": UsualWGAN},
        ),
        (
            "wgan-vgg 64², paper's widths, batch 2",
            lambda: WGANVGG(WGANVGG.Config(batch_size=2, features="substitute")),
            images(2, 64, 8),
            {"usual": UsualWGAN},
        ),
    ]
    for what, make, batch, usual in plans:
        for row in rows(what, make, batch, usual, goals, repeats):
            print(row, flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
