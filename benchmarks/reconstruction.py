"""Time MR reconstruction of a slice, and training rounds of MR reconstruction systems.

*Slices*: time that each system takes for one undersampled slice of 256 x 256 in memory, with networks of the paper's
size and random weights; beside it the time that the survey quotes, which was taken on other machines. *Rounds*:
training rounds of ganatomy's trainer against the usual loop, which runs the generator again for every player, computes
gradients of weights that it discards, and reads every loss.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from side_by_side import HEAD, compare, interleaved, machine
from training_round import Usual, bare, ours

from ganatomy.game import Batch, Method
from ganatomy.losses.adversarial import (
    nonsaturating_discriminator,
    nonsaturating_generator,
    wasserstein_critic,
    wasserstein_generator,
)
from ganatomy.methods.reconstruction.dagan import DAGAN, relative_error, spectral_error
from ganatomy.methods.reconstruction.gancs import GANCS
from ganatomy.methods.reconstruction.refinegan import RefineGAN, _absolute, _clip, _seen
from ganatomy.physics.coils import Encoding
from ganatomy.physics.sampling import Undersampling, undersample, zero_filled
from ganatomy.tasks.mr_reconstruction.scan import Scan
from ganatomy.tasks.mr_reconstruction.task import Reconstructor, complete

PRINTED = {"dagan": "200 ms CPU, 5.4 ms GPU", "gancs": "20 ms", "refinegan": "160 ms"}
"""System to the time per image that the survey quotes from its paper, on another machine."""


class UsualDAGAN(Usual):
    """Usual loop of DAGAN: discriminator, then generator, each with its own forward pass."""

    def __init__(self, method: DAGAN, batch: Batch):
        super().__init__(method, batch)
        c = method.config
        for name in ("discriminator", "generator"):
            self.optimizer(name, getattr(method, name), c.learning_rate, (c.beta1, 0.999))

    def __call__(self) -> None:
        """Train for one round."""
        method, c, log, batch = self.method, self.method.config, [], self.batch
        true, input = method.scanned(batch)
        fake = method.restore(input)
        real_scores, fake_scores = method.discriminator(2 * true - 1), method.discriminator(2 * fake.detach() - 1)
        self.step("discriminator", [nonsaturating_discriminator(real_scores, fake_scores)], log)
        log += [real_scores.mean().item(), fake_scores.mean().item()]
        fake = method.restore(input)
        losses = [
            c.pixel_weight * relative_error(2 * fake - 1, 2 * true - 1),
            c.frequency_weight * spectral_error(fake, true),
            c.perceptual_weight * c.perceptual_range**2 * method.features.distance(fake, true),
            c.adversarial_weight * nonsaturating_generator(method.discriminator(2 * fake - 1)),
        ]
        self.step("generator", losses, log)


class UsualRefineGAN(Usual):
    """Usual loop of RefineGAN: critic, then both generators, each with its own pass through the chain."""

    def __init__(self, method: RefineGAN, batch: Batch):
        super().__init__(method, batch)
        c = method.config
        for name, network in (("critic", method.critic), ("generators", method.generators)):
            self.optimizer(name, network, c.learning_rates[0], (c.beta1, 0.999))

    def __call__(self) -> None:
        """Train for one round."""
        method, c, log, batch = self.method, self.method.config, [], self.batch
        true, input = (torch.cat([part, part]) for part in (complete(batch), batch["input"]))
        kept = method.refined(input)[1]
        real_scores, fake_scores = method.critic(_seen(true)), method.critic(_seen(torch.cat(kept).detach()))
        losses = [
            method.pairs * wasserstein_critic(real_scores, fake_scores),
            c.shrinkage * _absolute(method.critic),
        ]
        self.step("critic", losses, log)
        log += [real_scores.mean().item(), fake_scores.mean().item()]
        _clip(method.critic, c.clip)
        direct, kept = method.refined(input)
        cycles = method.cycles(direct, kept, true, input)
        fake = method.critic(_seen(torch.cat(kept)))
        self.step("generators", [*cycles.values(), method.pairs * wasserstein_generator(fake)], log)


def scanned(count: int, size: int) -> Batch:
    """Return a batch of undersampled noise."""
    true = torch.rand(count, 1, size, size)
    mask = Undersampling(fraction=0.3).mask((size, size)).expand(count, 1, -1, -1)
    input = Scan(zero_filled(undersample(true, mask)), Encoding(mask)).packed
    return {"target": true, "input": input, "phase": torch.zeros_like(true)}


def slices(repeats: int) -> None:
    """Print the time per slice of every system."""
    print(f"One slice of 256 x 256, {machine()}, median of {repeats}\n")
    print("| system | ms per slice here | printed in the survey |\n|---|---|---|")
    for name, kind in (("dagan", DAGAN), ("gancs", GANCS), ("refinegan", RefineGAN)):
        method: Reconstructor = kind(kind.Config(adversarial_weight=0, **_without_features(kind)))
        method = method.to(memory_format=torch.channels_last).inference_mode()  # as in loaded runs
        input = scanned(1, 256)["input"]
        with torch.no_grad():
            method.restore(input)
            times = [_timed(method, input) for _ in range(repeats)]
        print(f"| {name} | {1000 * statistics.median(times):.0f} | {PRINTED[name]} |", flush=True)


def _without_features(kind: type[Reconstructor]) -> dict[str, float]:
    return {"perceptual_weight": 0.0} if kind is DAGAN else {}


def _timed(method: Reconstructor, input: torch.Tensor) -> float:
    start = time.perf_counter()
    method.restore(input)
    return time.perf_counter() - start


def rounds(repeats: int) -> None:
    """Print ratios of times of training rounds."""
    print(f"\nTraining rounds, {machine()}, median of {repeats} repeats taken in turns\n\n{HEAD}")
    plans: list[tuple[str, Callable[[], Method], Batch, type[Usual]]] = [
        (
            "dagan small 64², batch 8",
            lambda: DAGAN(DAGAN.Config.preset("small", augmented=False)),
            scanned(8, 64),
            UsualDAGAN,
        ),
        (
            "refinegan small 64², two samples of 2",
            lambda: RefineGAN(RefineGAN.Config.preset("small", augmented=False)),
            scanned(2, 64),
            UsualRefineGAN,
        ),
    ]
    for what, make, batch, usual in plans:
        methods = []
        for _ in range(3):
            torch.manual_seed(0)
            methods.append(make())
        loops = {"ours": ours(methods[0], batch), "usual": usual(methods[1], batch), "bare": bare(methods[2], batch)}
        times = interleaved(loops, repeats)
        for name, goal in (("usual", 0.6), ("bare", 1.02)):
            print(compare(f"{what}, against the {name} loop", times, "ours", name, goal), flush=True)


def main(repeats: int = 20) -> None:
    """Print both tables."""
    # On a shared machine, threads that wait for each other would add the load of other programs to the times.
    torch.set_num_threads(1)
    slices(repeats)
    rounds(repeats)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
