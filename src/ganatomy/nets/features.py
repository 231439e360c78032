"""Frozen feature networks for perceptual losses, and the search for their weights."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal, Self
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from ganatomy.errors import UserError

VGG19_ADDRESS = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
VGG19_SHA256_PREFIX = "dcbb9e9d"
VGG19_WIDTHS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
SUBSTITUTE = "vgg19 with random weights (seed 0), a substitute for ImageNet weights"

FeatureSource = Literal["auto", "vgg19", "substitute"]


def weights_folder() -> Path:
    """Return the folder of pre-trained weights: ``$GANATOMY_WEIGHTS``, else the user's cache folder."""
    return Path(os.environ.get("GANATOMY_WEIGHTS", Path.home() / ".cache" / "ganatomy" / "weights"))


def _reachable(address: str, seconds: float = 3.0) -> bool:
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=seconds).close()
    except OSError:
        return False
    return True


def find_vgg19_weights(file: Path | None) -> Path | None:
    """Return the weight file: the given one, the one in ``weights_folder()``, or a download; None if there is none.

    Raises:
        UserError: A file was given and does not exist.
    """
    if file is not None:
        if not file.is_file():
            raise UserError(f"features file {file}: no such file; give torchvision's {Path(VGG19_ADDRESS).name}")
        return file
    local = weights_folder() / Path(VGG19_ADDRESS).name
    if local.is_file():
        return local
    if not _reachable(VGG19_ADDRESS):
        return None
    import pooch

    try:
        return Path(pooch.retrieve(VGG19_ADDRESS, known_hash=None, fname=local.name, path=local.parent))
    except (OSError, ValueError):
        return None


class VGG19Features(nn.Module):
    """Activations of VGG-19 (Simonyan & Zisserman, arXiv 1409.1556) at one convolution, frozen.

    The weights are not part of the state of the method that uses them: ``name`` says which they are, and they are
    looked up again.

    Args:
        layer: ``conv<block>_<index>``, such as ``conv5_4``.
        relu: whether the activation is taken after the layer's ReLU, or before.
        source: ``auto`` takes ImageNet weights if they can be found or downloaded and the substitute otherwise.
        file: local file with torchvision's VGG-19 weights.
        width: multiplies the channel counts of the substitute.

    Raises:
        UserError: ``vgg19`` was requested and no weights can be found, or the file does not hold VGG-19 weights.
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
        weights = None if source == "substitute" else find_vgg19_weights(file)
        if source == "vgg19" and weights is None:
            raise UserError(
                f"VGG-19 weights: not in {weights_folder()} and {VGG19_ADDRESS} cannot be reached; "
                "copy the file there, name it with --features-file, or choose --features substitute"
            )
        network = self._build(layer, relu, 1.0 if weights else width)
        if weights:
            self._load(network, weights)
            self.name = f"vgg19 with ImageNet weights, {layer}"
        else:
            self.name = f"{SUBSTITUTE}, {layer}"
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
    def _load(network: nn.Sequential, file: Path) -> None:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            wanted = {key: state[f"features.{key}"] for key in network.state_dict()}
            network.load_state_dict(wanted)
        except (OSError, EOFError, KeyError, RuntimeError, ValueError, TypeError, UnpicklingError) as error:
            raise UserError(f"{file}: not torchvision's VGG-19 weights ({type(error).__name__})") from None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.__dict__["network"]._apply(fn, recurse)
        return super()._apply(fn, recurse)  # type: ignore[no-any-return,no-untyped-call]

    def forward(self, image: Tensor) -> Tensor:
        """Return the features of images in [0, 1], shape (N, 1 or 3, H, W)."""
        features: Tensor = self.__dict__["network"]((image.expand(-1, 3, -1, -1) - self.mean) / self.std)
        return features

    def distance(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared difference of the features, a scalar; no gradient reaches ``target``."""
        with torch.no_grad():
            wanted = self(target)
        difference: Tensor = self(output) - wanted
        return difference.square().mean()
