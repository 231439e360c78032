"""AnoGAN: anomaly detection by searching the latent space of a generator that was trained on healthy images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from ganatomy.game import Batch, Player, Stage, Turn, adam
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import latents
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator, Kernel
from ganatomy.tasks.anomaly_detection.task import AnomalyConfig, Detection, Detector

Term = Literal["features", "score"]
"""Discriminator term of the search: difference of features, or the score of the generated image."""
ScoredBy = Literal["search", "discriminator"]


class Search(NamedTuple):
    """Result of the search in latent space for every image."""

    latent: Tensor
    """Latent points, (n, latent)."""
    generated: Tensor
    """Generated images of the latent points, (n, 1, rows, columns)."""
    residual: Tensor
    """Sum of the absolute differences from the image, (n,)."""
    discriminating: Tensor
    """Discriminator term of the search, (n,)."""


class AnoGAN(Detector):
    """Anomaly detection by inverting a generator of healthy patches.

    Generator and discriminator are trained like DCGAN. For an image, gradient descent in latent space searches the
    nearest generated image; weights are fixed. The remaining difference is the anomaly map.

    Schlegl et al., Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker Discovery,
    IPMI 2017. arXiv 1703.05921.
    """

    stated_augmentation = None

    class Config(AnomalyConfig):
        """The paper's search and weights; other numbers are those of DCGAN unless another source is given."""

        game_rounds: int = 312_500  # updates of each player; 20 epochs of a million patches
        batch_size: int = 64  # patches
        learning_rate: float = 2e-4  # Adam, both players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        generator_steps: int = 1  # generator turns per discriminator turn
        latent: int = 100  # size of the latent vector, U(-1, 1)
        width: int = 64  # channels of the layers next to the image; doubled at every halving of the size
        levels: int = Field(4, ge=1)  # halvings of the size in the discriminator, doublings in the generator
        kernel: Kernel = 5  # side of all convolutions
        search_steps: int = 500  # gradient steps of the search in latent space
        search_rate: float = 1e-2  # learning rate of Adam in the search (our choice)
        search_weight: float = 0.1  # weight of the discriminator term in the search; 1 minus it is the residual's
        search_term: Term = "features"  # discriminator term of the search: features or score
        search_batch: int = Field(64, ge=1)  # images searched together, in batches of constant size (our choice)
        restarts: int = 1  # searches from different points, the best of which is kept for each image (our option)
        clip_latent: bool = True  # whether latent points are clipped to the range of training (our choice)
        scored_by: ScoredBy = "search"  # score of an image: result of the search, or discriminator for comparison
        fit: Fit = "patches"  # fit of images to the size: cut into patches, contain, or cover
        square: bool = False  # whether pixels are resampled to squares; rows of OCT are much closer than columns
        window: tuple[float, float] = (0.0, 255.0)  # values mapped to [-1, 1]
        phantom: str = "retinal-oct"  # embedded phantom used without --data
        phantom_image: str = "oct"  # image of the phantom that is examined

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (48, 48),
                "fit": "contain",
                "game_rounds": 800,
                "batch_size": 32,
                "latent": 32,
                "width": 24,
                "levels": 3,
                "kernel": 4,
                "search_steps": 60,
                "search_rate": 0.05,
                "search_batch": 4,
            },
        }

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        widths = [c.width * 2**level for level in range(c.levels)]
        self.generator = DCGenerator(c.latent, 1, c.size, widths[::-1], kernel=c.kernel)
        self.discriminator = DCDiscriminator(1, c.size, widths, kernel=c.kernel)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = [
            Player("discriminator", (self.discriminator,), moves, adversary=True),
            Player("generator", (self.generator,), moves),
        ]
        return [Stage("game", self.turns, players, c.game_rounds, self.streams(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        real = next(batches)["image"]
        fake = self.generated(len(real))
        real_scores, fake_scores = self.discriminator(real), self.discriminator(fake.detach())
        yield Turn(
            "discriminator",
            adversarial=nonsaturating_discriminator(real_scores, fake_scores),
            scores={"real": real_scores, "fake": fake_scores},
        )
        for step in range(self.config.generator_steps):
            fake = self.generated(len(real)) if step else fake
            yield Turn("generator", adversarial=nonsaturating_generator(self.discriminator(fake)))

    def generated(self, rows: int) -> Tensor:
        """Generate patches for training."""
        return self.generator(latents(self.noise, rows, self.config.latent, "uniform"))  # type: ignore[no-any-return]

    def detect(self, image: Tensor) -> Detection:
        found = self.search(image)
        alone = self.config.scored_by == "discriminator"
        score = not_real(self.discriminator(image)) if alone else self.energy(found)
        return Detection(self.residual(image, found.generated), score, found.generated)

    def energy(self, found: Search) -> Tensor:
        """Return the objective of the search, whose final value is the anomaly score, (n,)."""
        weight = self.config.search_weight
        return (1 - weight) * found.residual + weight * found.discriminating

    @torch.no_grad()
    def search(self, image: Tensor) -> Search:
        """Search the latent points whose generated images are nearest to images (n, 1, rows, columns).

        Losses are summed over the images, so that searches are independent of each other; all start from the same
        point. Processors round differently for batches of different size, which hundreds of steps amplify to percents
        of a score. Images are therefore searched in batches of one size, the last padded with copies of its last image.
        """
        found = [self.search_batch(self.filled(batch)) for batch in torch.split(image, self.config.search_batch)]
        return Search(*(torch.cat(parts)[: len(image)] for parts in zip(*found, strict=True)))

    def filled(self, image: Tensor) -> Tensor:
        """Pad a batch to the size `search_batch` with copies of its last image."""
        missing = self.config.search_batch - len(image)
        return torch.cat([image, image[-1:].expand(missing, *image.shape[1:])]) if missing else image

    def search_batch(self, image: Tensor) -> Search:
        """Search one batch of images from all restarts and keep the best result of each image."""
        features = self.discriminator.features(image)
        best: Search | None = None
        for restart in range(self.config.restarts):
            found = self.descend(image, features, self.start(restart, image))
            best = found if best is None else self.better(best, found)
        assert best is not None
        return best

    def start(self, number: int, image: Tensor) -> Tensor:
        """Return the initial latent point of a restart, the same for every image."""
        point = torch.rand(self.config.latent, generator=torch.Generator().manual_seed(number))
        return (2 * point - 1).to(image).repeat(len(image), 1)

    def descend(self, image: Tensor, features: Tensor, latent: Tensor) -> Search:
        """Run one search by gradient descent; only the latent points get gradients."""
        c = self.config
        latent = latent.requires_grad_()
        optimizer = torch.optim.Adam([latent], c.search_rate)
        for _ in range(c.search_steps):
            with torch.enable_grad():
                energy = self.energy(self.compare(image, features, latent)).sum()
            (latent.grad,) = torch.autograd.grad(energy, latent)
            optimizer.step()
            if c.clip_latent:
                latent.clamp_(-1, 1)
        return self.compare(image, features, latent.detach())

    def compare(self, image: Tensor, features: Tensor, latent: Tensor) -> Search:
        """Compare images with the generated ones of latent points; ``features`` are those of the images."""
        generated = self.generator(latent)
        residual = (image - generated).abs().flatten(1).sum(1)
        made = self.discriminator.features(generated)
        if self.config.search_term == "features":
            discriminating = (features - made).abs().flatten(1).sum(1)
        else:
            discriminating = not_real(self.discriminator.score(made))
        return Search(latent, generated, residual, discriminating)

    def better(self, first: Search, second: Search) -> Search:
        """Return the search with the lower objective for each image."""
        wins = self.energy(second) < self.energy(first)
        parts = (torch.where(wins.reshape(-1, *[1] * (a.dim() - 1)), b, a) for a, b in zip(first, second, strict=True))
        return Search(*parts)


def not_real(scores: Tensor) -> Tensor:
    """Return -log D of every image, (n,)."""
    return softplus(-scores).squeeze(1)
