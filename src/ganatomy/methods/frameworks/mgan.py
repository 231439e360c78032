"""MGAN: texture transfer by pixel optimisation, and a feed-forward network that learns its results."""

from collections.abc import Iterator, Mapping, Sequence
from math import radians
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, mse_loss

from ganatomy.game import Batch, Player, Stage, Stream, Tiling, Turn, adam
from ganatomy.losses.adversarial import hinge_discriminator, margin_generator
from ganatomy.losses.matching import total_variation
from ganatomy.nets.features import FeatureSource, VGG19Features
from ganatomy.tasks.translation.task import TranslationConfig, Translator


class TextureCritic(nn.Sequential):
    """Critic of the pixel optimisation: one score per patch of features, (N, C, H, W) to (N, patches).

    Patches are cut from the features before anything else, so that a score depends on its patch alone.
    """

    def __init__(self, channels: int, width: int = 256, patch: int = 8, step: int = 4):
        super().__init__(
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 1, patch),
        )
        self.patch, self.step = patch, step

    def forward(self, input: Tensor) -> Tensor:
        """Score the patches of features (N, C, H, W), row by row, (N, patches)."""
        scores: Tensor = super().forward(cut(input, self.patch, self.step))  # type: ignore[no-untyped-call]
        return scores.reshape(len(input), -1)


def cut(maps: Tensor, side: int, step: int) -> Tensor:
    """Cut square patches from maps (N, C, H, W), ``step`` apart and up to the edge, (N · patches, C, side, side)."""
    rows, columns = (
        [*range(0, length - side, step), length - side] if length > side else [0] for length in maps.shape[2:]
    )
    found = [maps[:, :, row : row + side, column : column + side] for row in rows for column in columns]
    return torch.stack(found, dim=1).flatten(0, 1)


class Decoder(nn.Sequential):
    """Decoder from features (N, channels, H, W) to images (N, outputs, 8 H, 8 W) in [-1, 1]."""

    def __init__(self, channels: int, outputs: int, width: int = 512):
        layers: list[nn.Module] = []
        before = channels
        for after, kernel, stride in ((width, 3, 1), (width // 2, 4, 2), (width // 4, 4, 2)):
            layers += [nn.ConvTranspose2d(before, after, kernel, stride, 1), nn.BatchNorm2d(after), nn.ReLU()]
            before = after
        super().__init__(*layers, nn.ConvTranspose2d(before, outputs, 4, 2, 1), nn.Tanh())


class MarkovianCritic(nn.Sequential):
    """Critic of the network: a map of scores at a quarter of the features' size, without its border.

    (N, C, H, W) to (N, 1, ...).
    """

    def __init__(self, channels: int, width: int = 256, border: int = 1):
        super().__init__(
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, width, 4, 2, 1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 1),
            nn.ZeroPad2d(-border),
        )


class MGAN(Translator):
    """Texture transfer with Markovian GANs: source images get the texture of target images, learned in three steps.

    First, a critic of local patches learns the texture while the pixels of a few images are optimised against it. Then
    the pixels of all training images are optimised against the fixed critic. Last, a feed-forward network learns these
    results.

    Li & Wand, Precomputed Real-Time Texture Synthesis with Markovian Generative Adversarial Networks, ECCV 2016.
    arXiv 1604.04382. In the published code, the texture critic learns from patches of 18 rotated, scaled and flipped
    copies of the texture at once, and gradients of overlapping patches are averaged; here it learns from one copy at
    every step, and they add up.
    """

    stated_augmentation = "turned by 10° to either side, enlarged or shrunk by a tenth, and mirrored"
    revision = 2

    class Config(TranslationConfig):
        """The numbers of the released code."""

        size: tuple[int, int] = (384, 384)  # rows and columns of the images
        crop: int = 128  # side in pixels of the patches that the network is trained on
        starters: int = 5  # images that the texture critic is trained on, one after the other
        steps: int = 125  # updates of the pixels of an image; 5 epochs of 25
        pixel_rate: float = 0.02  # learning rate of Adam for the pixels of images in [-1, 1]
        texture_rate: float = 0.02  # learning rate of Adam for the texture critic
        texture_weight: float = 0.5  # weight of the texture critic in the pixel optimisation
        content_weight: float = 0.5  # weight of the squared difference of features in the pixel optimisation
        smoothness_weight: float = 1e-4  # weight of the total variation in the pixel optimisation
        texture_patch: int = Field(8, ge=1)  # side of the patches of features that the texture critic scores
        game_rounds: int = 3500  # updates of the network; 5 epochs of 100 images (our choice)
        batch_size: int = 64  # patches
        learning_rate: float = 0.02  # learning rate of Adam for the network and its critic
        betas: tuple[float, float] = (0.5, 0.999)  # betas of Adam, everywhere
        adversarial_weight: float = 0.01  # weight of the game beside the target; 0 trains the network without a critic
        target_weight: float = 1.0  # weight of the squared difference from the optimised image
        target_distance: Literal["pixels", "features"] = "pixels"  # pixels as in the code, features as in the paper
        rotation: float = Field(10.0, ge=0, le=180)  # degrees by which patches are rotated either way, or not at all
        zoom: float = Field(1.1, ge=1)  # factor by which patches are enlarged or reduced, or not at all
        border: int = Field(1, ge=0)  # width of the border of the score map that is left out
        texture_layer: str = "conv3_1"  # layer of VGG-19 whose features both critics receive, after its ReLU
        content_layer: str = "conv5_1"  # layer of VGG-19 whose features the pixel optimisation preserves
        encoder_layer: str = "conv4_1"  # layer of VGG-19 whose features are the input of the network
        features: FeatureSource = "auto"  # weights of VGG-19; auto falls back to the substitute and says so
        features_file: Path | None = None  # local file with torchvision's VGG-19 weights
        features_width: float = 1.0  # channel multiplier of the substitute features
        width: int = 512  # channels of the network next to the features
        critic_width: int = 256  # channels of the critics
        ema_halflife: float | None = None  # images; average of the network used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "crop": 64,
                "starters": 12,
                "steps": 40,
                "pixel_rate": 0.05,
                "texture_rate": 0.01,
                "texture_weight": 1.0,
                "content_weight": 0.01,
                "smoothness_weight": 0.3,
                "texture_patch": 5,
                "game_rounds": 600,
                "batch_size": 8,
                "learning_rate": 2e-3,
                "texture_layer": "conv1_2",
                "content_layer": "conv3_2",
                "features": "substitute",
                "features_width": 0.25,
                "width": 64,
                "critic_width": 32,
                "ema_halflife": 200.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config
    paired = False

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.texture, self.content, self.encoder = (
            VGG19Features(layer, c.features, c.features_file, width=c.features_width)
            for layer in (c.texture_layer, c.content_layer, c.encoder_layer)
        )
        seen, encoded = (part(torch.zeros(1, 3, 32, 32)).shape[1] for part in (self.texture, self.encoder))
        self.texture_critic = TextureCritic(seen, c.critic_width, c.texture_patch, max(1, c.texture_patch // 2))
        self.generator = Decoder(encoded, self.task.out_channels, c.width)
        self.critic = MarkovianCritic(seen, c.critic_width, c.border) if c.adversarial_weight else None

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=8)

    def provenance(self) -> dict[str, str]:
        return {f"{name} features": getattr(self, name).name for name in ("texture", "content", "encoder")}

    def stages(self) -> Sequence[Stage]:
        c, task = self.config, self.task
        moves = adam(c.learning_rate, c.betas)
        texture = Player("texture critic", (self.texture_critic,), adam(c.texture_rate, c.betas), adversary=True)
        players = [Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife)]
        if self.critic:
            players.insert(0, Player("critic", (self.critic,), moves, adversary=True))
        cuts = Stream("patches", (task.input, "target"), c.batch_size, (1, c.crop, c.crop), flips=c.flips)
        return [
            Stage("texture", self.texture_turns, [texture], c.starters, self.streams(1), validated=False),
            Stage("network", self.turns, players, c.game_rounds, cuts, derive={"target": self.optimised}),
        ]

    def texture_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Optimise the pixels of an image, and train the texture critic against it at every step."""
        batch = next(batches)
        (style,) = self.warped(batch["target"][self.task.output])
        painting = Painting(self, batch["source"][self.task.input])
        for _ in range(self.config.steps):
            real_scores, fake_scores = self.texture_scores(style), self.texture_scores(painting.pixels.detach())
            yield Turn(
                "texture critic",
                adversarial=hinge_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
            painting.step()

    def texture_scores(self, image: Tensor) -> Tensor:
        """Score the patches of images in [-1, 1] with the texture critic, (N, patches)."""
        return self.texture_critic(self.texture((image + 1) / 2))  # type: ignore[no-any-return]

    def optimised(self, batch: Batch) -> Tensor:
        """Return the source images with the texture of the target, by pixel optimisation against the present critic."""
        # Cases without a source image hold texture only, and the network is not trained on them.
        if self.task.input not in batch:
            texture: Tensor = batch[self.task.output]
            return texture
        with torch.enable_grad():
            painting = Painting(self, batch[self.task.input])
            for _ in range(self.config.steps):
                painting.step()
        return painting.pixels.detach()

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        content, target = self.warped(batch[self.task.input], batch["target"])
        fake = self.restore(content)
        if self.critic:
            real_scores, fake_scores = self.scores(target), self.scores(fake.detach())
            yield Turn(
                "critic",
                adversarial=hinge_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
        whole = c.target_weight + c.adversarial_weight
        losses = {"target": c.target_weight / whole * self.distance(fake, target)}
        if self.critic:
            losses["adversarial"] = c.adversarial_weight / whole * margin_generator(self.scores(fake))
        yield Turn("generator", losses)

    def scores(self, image: Tensor) -> Tensor:
        """Score the patches of images in [-1, 1] with the network's critic, (N, 1, rows, columns)."""
        assert self.critic
        return self.critic(self.texture((image + 1) / 2))  # type: ignore[no-any-return]

    def distance(self, fake: Tensor, target: Tensor) -> Tensor:
        """Return the distance of the network's output from the image optimised in the first part, a scalar."""
        if self.config.target_distance == "features":
            return self.content.distance((fake + 1) / 2, (target + 1) / 2)
        return mse_loss(fake, target)

    def warped(self, *images: Tensor) -> list[Tensor]:
        """Rotate and zoom each sample by one of three amounts, alike in all given images."""
        c = self.config
        turn, zoom = ((self.noise.uniform(len(images[0]), 2) * 3).floor() - 1).to(images[0]).unbind(1)
        angle, factor = radians(c.rotation) * turn, c.zoom**-zoom
        cosine, sine, still = factor * angle.cos(), factor * angle.sin(), torch.zeros_like(angle)
        matrices = torch.stack([cosine, -sine, still, sine, cosine, still], dim=1).view(-1, 2, 3)
        return [
            grid_sample(
                image,
                affine_grid(matrices, list(image.shape), align_corners=False),
                padding_mode="reflection",
                align_corners=False,
            )
            for image in images
        ]

    def restore(self, input: Tensor) -> Tensor:
        return self.generator(self.encoder((input + 1) / 2))  # type: ignore[no-any-return]


class Painting:
    """Pixel optimisation of a batch of images from their content towards a texture, independently of each other.

    Args:
        method: method that has the texture critic and the weights of the loss.
        content: images (N, C, H, W) in [-1, 1].
    """

    def __init__(self, method: MGAN, content: Tensor):
        c = method.config
        self.method = method
        with torch.no_grad():
            self.content = method.content((content + 1) / 2)
        self.pixels = content.clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.pixels], c.pixel_rate, c.betas)

    def step(self) -> None:
        """Update the pixels once; the critic gets no gradient."""
        c, method = self.method.config, self.method
        loss = (
            c.texture_weight * margin_generator(method.texture_scores(self.pixels))
            + c.content_weight * mse_loss(method.content((self.pixels + 1) / 2), self.content)
            + c.smoothness_weight * total_variation(self.pixels, 2)
        )
        # Means become sums over images, so that the gradient of an image does not depend on its batch.
        (self.pixels.grad,) = torch.autograd.grad(len(self.pixels) * loss, self.pixels)
        self.optimizer.step()
        with torch.no_grad():
            self.pixels.clamp_(-1, 1)
