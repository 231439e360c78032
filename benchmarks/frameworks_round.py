"""Time training rounds of dcgan, wgan-gp, pix2pix and cyclegan against the loops of common repositories.

Both sides have the same networks, losses, sizes, batch in memory, data type and threads, and no I/O. The usual loops
are those of PyTorch's DCGAN example (two backward passes for the discriminator; gradients of its weights computed and
discarded in the generator's turn), of PyTorch-GAN's WGAN-GP (the generator's graph is built in every critic step), and
of pytorch-CycleGAN-and-pix2pix (one forward pass, discriminators frozen in the generators' turn, losses read at every
step). All of them use the default Adam.
"""

import sys
from collections.abc import Callable, Iterator

import torch
from side_by_side import HEAD, compare, interleaved, machine
from torch.nn.functional import l1_loss
from training_round import Usual, bare, ours

from ganatomy.game import Batch, Method
from ganatomy.losses.adversarial import (
    gradient_penalty,
    least_squares_discriminator,
    least_squares_generator,
    nonsaturating_discriminator,
    nonsaturating_generator,
    wasserstein_critic,
    wasserstein_generator,
)
from ganatomy.methods.frameworks.cyclegan import CycleGAN
from ganatomy.methods.frameworks.dcgan import DCGAN
from ganatomy.methods.frameworks.pix2pix import Pix2Pix
from ganatomy.methods.frameworks.wgan_gp import WGANGP


class UsualDCGAN(Usual):
    """Usual loop of DCGAN: discriminator on real, then fake images, with a backward pass each; then the generator."""

    def __init__(self, method: DCGAN, batch: Batch):
        super().__init__(method, batch)
        c = method.config
        self.optimizer("discriminator", method.discriminator, c.learning_rate, c.betas)
        self.optimizer("generator", method.generator, c.learning_rate, c.betas)

    def __call__(self) -> None:
        """Train for one round."""
        method, real, log = self.method, self.batch["image"], []
        self.optimizers["discriminator"].zero_grad()
        real_scores = method.discriminator(real)
        of_real = torch.nn.functional.softplus(-real_scores).mean()
        of_real.backward()
        fake = method.generator(method.latents(len(real)))
        fake_scores = method.discriminator(fake.detach())
        of_fake = torch.nn.functional.softplus(fake_scores).mean()
        of_fake.backward()
        self.optimizers["discriminator"].step()
        self.step("generator", [nonsaturating_generator(method.discriminator(fake))], log)
        log += [(of_real + of_fake).item(), real_scores.mean().item(), fake_scores.mean().item()]


class UsualWGANGP(Usual):
    """Usual loop of WGAN-GP: critic steps on fakes whose graph is built and discarded, then the generator."""

    def __init__(self, method: WGANGP, batch: Batch):
        super().__init__(method, batch)
        c = method.config
        self.optimizer("critic", method.critic, c.learning_rate, c.betas)
        self.optimizer("generator", method.generator, c.learning_rate, c.betas)

    def __call__(self) -> None:
        """Train for one round."""
        method, c, real, log = self.method, self.method.config, self.batch["image"], []
        for _ in range(c.critic_steps):
            fake = method.generator(method.latents(len(real)))
            real_scores, fake_scores = method.critic(real), method.critic(fake.detach())
            penalty = gradient_penalty(method.critic, real, fake, method.noise.uniform(len(real)))
            self.step("critic", [wasserstein_critic(real_scores, fake_scores), c.penalty_weight * penalty], log)
            log += [real_scores.mean().item(), fake_scores.mean().item()]
        fake = method.generator(method.latents(len(real)))
        self.step("generator", [wasserstein_generator(method.critic(fake))], log)


class UsualPix2Pix(Usual):
    """Usual loop of pix2pix: discriminator, then generator with the discriminator frozen."""

    def __init__(self, method: Pix2Pix, batch: Batch):
        super().__init__(method, batch)
        c = method.config
        self.optimizer("discriminator", method.discriminator, c.learning_rate, c.betas)
        self.optimizer("generator", method.generator, c.learning_rate, c.betas)

    def __call__(self) -> None:
        """Train for one round."""
        method, c, log = self.method, self.method.config, []
        source, target = self.batch[method.task.source], self.batch[method.task.product]
        fake = method.restore(source)
        method.discriminator.requires_grad_(True)
        real_scores = method.discriminator(torch.cat([source, target], dim=1))
        fake_scores = method.discriminator(torch.cat([source, fake.detach()], dim=1))
        self.step("discriminator", [0.5 * nonsaturating_discriminator(real_scores, fake_scores)], log)
        log += [real_scores.mean().item(), fake_scores.mean().item()]
        method.discriminator.requires_grad_(False)
        scores = method.discriminator(torch.cat([source, fake], dim=1))
        self.step("generator", [c.l1_weight * l1_loss(fake, target), nonsaturating_generator(scores)], log)
        method.discriminator.requires_grad_(True)


class UsualCycleGAN(Usual):
    """Usual loop of CycleGAN: generators with frozen discriminators, then both discriminators."""

    def __init__(self, method: CycleGAN, batch: Batch):
        super().__init__(method, batch)
        c = method.config
        for name, networks in (
            ("generators", (method.to_source, method.to_target)),
            ("discriminators", (method.discriminator_source, method.discriminator_target)),
        ):
            self.optimizer(name, torch.nn.ModuleList(networks), c.learning_rate, c.betas)

    def __call__(self) -> None:
        """Train for one round."""
        method, c, log = self.method, self.method.config, []
        source = self.batch["source"][method.task.source]
        target = self.batch["target"][method.task.product]
        critics = torch.nn.ModuleList([method.discriminator_source, method.discriminator_target])
        critics.requires_grad_(False)
        fake_target, fake_source = method.to_target(source), method.to_source(target)
        losses = [
            c.cycle_weight * l1_loss(method.to_source(fake_target), source),
            c.cycle_weight * l1_loss(method.to_target(fake_source), target),
            least_squares_generator(method.discriminator_source(fake_source)),
            least_squares_generator(method.discriminator_target(fake_target)),
        ]
        self.step("generators", losses, log)
        critics.requires_grad_(True)
        judged = []
        for critic, pool, real, fake in (
            (method.discriminator_source, method.pool_source, source, fake_source),
            (method.discriminator_target, method.pool_target, target, fake_target),
        ):
            recalled = pool(fake.detach(), method.noise.uniform(len(fake), 2))
            judged.append(least_squares_discriminator(critic(real), critic(recalled)))
        self.step("discriminators", judged, log)


def images(method: Method, count: int, side: int) -> Batch:
    """Return a batch of single-channel noise images, by stream where the method draws from several."""
    torch.manual_seed(1)
    streams = {
        stream.name: {role: torch.rand(count, 1, side, side) for role in stream.roles or method.task.required}
        for stream in method.stages()[-1].streams_in_order
    }
    return streams if len(streams) > 1 else next(iter(streams.values()))


def main(repeats: int = 20) -> None:
    """Print the table of ratios."""
    torch.set_num_threads(1)
    print(f"Rounds of the base frameworks, {machine()}, median of {repeats} repeats taken in turns\n\n{HEAD}")
    plans: list[tuple[str, Callable[[], Method], tuple[int, int], type[Usual]]] = [
        ("dcgan small 32², batch 32", lambda: DCGAN(DCGAN.Config.preset("small")), (32, 32), UsualDCGAN),
        (
            "dcgan 64², width 32, batch 16",
            lambda: DCGAN(DCGAN.Config(width=32, roles={"image": {"channels": 1}})),
            (16, 64),
            UsualDCGAN,
        ),
        (
            "wgan-gp small 32², batch 32",
            lambda: WGANGP(WGANGP.Config.preset("small")),
            (32, 32),
            UsualWGANGP,
        ),
        (
            "pix2pix small 64², batch 4",
            lambda: Pix2Pix(Pix2Pix.Config.preset("small", jitter=0)),
            (4, 64),
            UsualPix2Pix,
        ),
        (
            "cyclegan small 64², batch 2",
            lambda: CycleGAN(CycleGAN.Config.preset("small", jitter=0)),
            (2, 64),
            UsualCycleGAN,
        ),
    ]
    for what, make, shape, usual in plans:
        for row in rows(what, make, images(make(), *shape), usual, repeats):
            print(row, flush=True)


def rows(what: str, make: Callable[[], Method], batch: Batch, usual: type[Usual], repeats: int) -> Iterator[str]:
    """Yield the table rows of one system: against the usual loop, and against the bare one where it applies."""

    def fresh() -> Method:
        torch.manual_seed(0)
        return make()

    cases: dict[str, Callable[[], object]] = {"ours": ours(fresh(), batch), "usual": usual(fresh(), batch)}
    if not isinstance(fresh(), CycleGAN):  # the bare loop cannot make the simultaneous move of CycleGAN
        cases["bare"] = bare(fresh(), batch)
    times = interleaved(cases, repeats)
    for name in list(cases)[1:]:
        yield str(compare(f"{what}, against the {name} loop", times, "ours", name, {"usual": 0.6, "bare": 1.02}[name]))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
