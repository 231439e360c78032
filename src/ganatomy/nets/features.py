"""Frozen feature networks for perceptual losses, and the search for their weights."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal, Self

import torch
from torch import Tensor, nn

from ganatomy.errors import UserError

VGG19_ADDRESS = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
VGG19_SHA256 = "dcbb9e9d"
"""First digits of the SHA-256 of this file, which PyTorch publishes as a part of its name."""
VGG19_WIDTHS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
SUBSTITUTE = "vgg19 with random weights (seed 0), a substitute for ImageNet weights"

FeatureSource = Literal["auto", "vgg19", "substitute", "download"]
"""Weights of VGG-19: those of ImageNet where they are on this machine, else the substitute; those of ImageNet; the
substitute; those of ImageNet, downloaded where they are not on this machine."""


def weights_folder() -> Path:
    """Return the folder of pre-trained weights: ``$GANATOMY_WEIGHTS``, else the user's cache folder.

    Without a home folder, in which there can be no weights, the path begins with ``~``.
    """
    if given := os.environ.get("GANATOMY_WEIGHTS"):
        return Path(given)
    folder = Path("~", ".cache", "ganatomy", "weights")
    try:
        return folder.expanduser()
    except RuntimeError:
        return folder


def vgg19_file() -> Path:
    """Return the path at which torchvision's VGG-19 weights are looked for, whether they are there or not."""
    return weights_folder() / Path(VGG19_ADDRESS).name


def find_vgg19_weights(file: Path | None) -> Path | None:
    """Return the weight file: the given one, or the one in ``weights_folder()``; None if there is none.

    Raises:
        UserError: a file was given and does not exist.
    """
    if file is not None:
        if not file.is_file():
            raise UserError(f"--features-file {file}: no such file; give torchvision's {vgg19_file().name}")
        return file
    return vgg19_file() if vgg19_file().is_file() else None


def download_vgg19_weights() -> Path:
    """Return the weight file in ``weights_folder()``, downloaded and checked against its hash where it is missing.

    Raises:
        UserError: the download fails, or yields another file, which is not kept.
    """
    file = vgg19_file()
    if file.parts[0] == "~":
        raise UserError(
            "--features download: there is no home folder; set GANATOMY_WEIGHTS to a folder for the weights"
        )
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(VGG19_ADDRESS, str(file), VGG19_SHA256, progress=False)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"--features download: {VGG19_ADDRESS} cannot be fetched ({error}); copy it to {file}, "
                "or choose --features substitute"
            ) from None
    return file


class VGG19Features(nn.Module):
    """Activations of VGG-19 (Simonyan & Zisserman, arXiv 1409.1556) at one convolution, frozen.

    The weights are not part of the state of the method that uses them: ``name`` says which they are, and they are
    looked up again.

    Args:
        layer: ``conv<block>_<index>``, such as ``conv5_4``.
        relu: whether the activation is taken after the layer's ReLU, or before.
        source: weights; nothing is downloaded unless it is ``download``.
        file: local file with VGG-19 weights in torchvision's format; None means the one in ``weights_folder()``.
        width: multiplies the channel counts of the substitute.

    Raises:
        UserError: ``vgg19`` was requested and no weights can be found, or the file does not hold VGG-19 weights; or
            the file in ``weights_folder()`` is not torchvision's.
    """

    mean: Tensor
    std: Tensor
    MEAN = (0.485, 0.456, 0.406)
    STD = (0.229, 0.224, 0.225)

    def __init__(
        self,
        layer: str = "conv5_4",
        source: FeatureSource = "auto",
        file: Path | None = None,
        relu: bool = True,
        width: float = 1.0,
    ):
        super().__init__()
        if source == "download" and file is None:
            file = download_vgg19_weights()
        weights = None if source == "substitute" else find_vgg19_weights(file)
        if source in ("vgg19", "download") and weights is None:
            raise UserError(
                f"--features vgg19: no weights in {vgg19_file()}; copy {VGG19_ADDRESS} there, fetch it with "
                "--features download, name a copy with --features-file, or choose --features substitute"
            )
        network = self._build(layer, relu, 1.0 if weights else width)
        self.name = f"{self._load(network, weights) if weights else SUBSTITUTE}, {layer}"
        frozen = network.eval().requires_grad_(False)
        # Not a registered submodule, because every checkpoint would otherwise hold 80 MB of frozen weights.
        self.__dict__["network"] = frozen
        self.register_buffer("mean", torch.tensor(self.MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.STD).view(1, 3, 1, 1), persistent=False)

    @staticmethod
    def _build(layer: str, relu: bool, width: float) -> nn.Sequential:
        layers: list[nn.Module] = []
        channels = 3
        generator = torch.Generator().manual_seed(0)
        for block, widths in enumerate(VGG19_WIDTHS, start=1):
            for index, base in enumerate(widths, start=1):
                out = max(1, round(base * width))
                with torch.random.fork_rng(devices=[]):
                    convolution = nn.Conv2d(channels, out, 3, padding=1)
                nn.init.kaiming_normal_(convolution.weight, generator=generator)
                nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
                layers.append(convolution)
                channels = out
                if layer == f"conv{block}_{index}":
                    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))
                layers.append(nn.ReLU())
            layers.append(nn.MaxPool2d(2))
        raise UserError(f"perceptual layer {layer!r}: VGG-19 has conv1_1 to conv5_4")

    @staticmethod
    def _load(network: nn.Sequential, file: Path) -> str:
        """Load weights into the network, and return which they are, in words."""
        try:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            known = digest.startswith(VGG19_SHA256)
            if file == vgg19_file() and not known:
                raise UserError(f"{file}: not torchvision's VGG-19 weights, or damaged; delete it, and copy it anew")
            state = torch.load(file, map_location="cpu", weights_only=True)
            wanted = {key: state[f"features.{key}"] for key in network.state_dict()}
            network.load_state_dict(wanted)
        except (OSError, EOFError, KeyError, RuntimeError, ValueError, TypeError, UnpicklingError) as error:
            raise UserError(f"{file}: not torchvision's VGG-19 weights ({type(error).__name__})") from None
        return "vgg19 with ImageNet weights" if known else f"vgg19 with the weights sha256:{digest[:12]}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.__dict__["network"]._apply(fn, recurse)
        return super()._apply(fn, recurse)  # type: ignore[no-any-return,no-untyped-call]

    def forward(self, image: Tensor) -> Tensor:
        """Return the features of images in [0, 1], shape (N, 1 or 3, H, W)."""
        features: Tensor = self.__dict__["network"]((image.expand(-1, 3, -1, -1) - self.mean) / self.std)
        return features

    def activations(self, image: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Return the activations of images in [0, 1] behind the ReLUs of several layers.

        Args:
            image: images (N, 1 or 3, H, W).
            layers: names of layers, none of which lies behind the layer of this network.

        Raises:
            ValueError: a layer is unknown, or lies behind the network's end.
        """
        steps: nn.Sequential = self.__dict__["network"]
        names = {
            2 * sum(map(len, VGG19_WIDTHS[: block - 1])) + block - 1 + 2 * index - 1: f"conv{block}_{index}"
            for block, widths in enumerate(VGG19_WIDTHS, start=1)
            for index in range(1, len(widths) + 1)
        }
        features = (image.expand(-1, 3, -1, -1) - self.mean) / self.std
        found: dict[str, Tensor] = {}
        for place, step in enumerate(steps):
            features = step(features)
            if names.get(place) in layers:
                found[names[place]] = features
        if missing := [name for name in layers if name not in found]:
            raise ValueError(f"{missing[0]} is no layer of this network")
        return [found[name] for name in layers]

    def distance(self, output: Tensor, target: Tensor, *, summed: bool = False) -> Tensor:
        """Return the mean squared difference of the features, a scalar; no gradient reaches ``target``.

        With ``summed`` it is the sum over the features of an image, and the mean over images.
        """
        with torch.no_grad():
            wanted = self(target)
        squares: Tensor = (self(output) - wanted).square()
        return squares.flatten(1).sum(1).mean() if summed else squares.mean()
