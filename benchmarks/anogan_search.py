"""Time AnoGAN's latent search for a batch of images against the usual loop over single images.

Both minimise the same distance from the same start with equally many steps of equal size. *Plain* is the loop of common
repositories: one image at a time, with gradients of the weights computed and discarded by ``backward``, features of the
real image recomputed in every step, and the loss read with ``.item()``.
"""

import sys

import torch
from side_by_side import HEAD, compare, interleaved, machine
from torch import Tensor

from ganatomy.methods.detection.anogan import AnoGAN


def plain(method: AnoGAN, images: Tensor) -> Tensor:
    """Search for every image by itself, and return the final residuals."""
    return torch.cat([plain_search(method, image) for image in images.split(1)])


def plain_search(method: AnoGAN, image: Tensor) -> Tensor:
    """Search for one image with the usual loop, and return its final residual."""
    c, log = method.config, []
    latent = method.start(0, image).requires_grad_()
    optimizer = torch.optim.Adam([latent], c.search_rate)
    for _ in range(c.search_steps):
        generated = method.generator(latent)
        residual = (image - generated).abs().sum()
        real, made = method.discriminator.features(image), method.discriminator.features(generated)
        loss = (1 - c.search_weight) * residual + c.search_weight * (real - made).abs().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            latent.clamp_(-1, 1)
        log.append(loss.item())
    with torch.no_grad():
        return (image - method.generator(latent)).abs().flatten(1).sum(1)


def spread(method: AnoGAN) -> None:
    """Enlarge random weights so that images depend on their latent points, as after training."""
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)


def main(repeats: int = 3, count: int = 32, steps: int = 50) -> None:
    """Print the ratios of times, images per second, and how far the final residuals differ."""
    # On a shared machine, threads that wait for each other would add the load of other programs to the times.
    torch.set_num_threads(1)
    torch.manual_seed(0)
    values = {"search_steps": steps, "search_rate": 0.05, "search_batch": count}
    cases = {
        "small 48²": AnoGAN.Config.preset("small", **values),
        "paper's networks 64²": AnoGAN.Config(**values),
    }
    print(f"AnoGAN's search, {count} images, {machine()}, median of {repeats} repeats taken in turns\n\n{HEAD}")
    notes = []
    for name, config in cases.items():
        method = AnoGAN(config).eval()
        spread(method)
        with torch.no_grad():
            images = method.generator(2 * torch.rand(count, config.latent) - 1)
        residuals: dict[str, Tensor] = {}

        def batched(method: AnoGAN = method, images: Tensor = images, residuals: dict[str, Tensor] = residuals) -> None:
            residuals["batched"] = method.search(images).residual

        def single(method: AnoGAN = method, images: Tensor = images, residuals: dict[str, Tensor] = residuals) -> None:
            residuals["plain"] = plain(method, images)

        times = interleaved({"batched": batched, "plain": single}, repeats, warm=0)
        print(compare(f"{name}, against one image at a time", times, "batched", "plain", 0.1), flush=True)
        rates = {kind: count / sorted(found)[len(found) // 2] for kind, found in times.items()}
        apart = (residuals["batched"] / residuals["plain"] - 1).abs().mean()
        notes.append(
            f"{name}: {rates['batched']:.2f} and {rates['plain']:.2f} images/s; final residuals differ by "
            f"{100 * float(apart):.2g} % on average"
        )
    print("", *notes, sep="\n")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
