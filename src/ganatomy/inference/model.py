"""A trained method, ready for images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from ganatomy import catalogue
from ganatomy.errors import UserError
from ganatomy.game import Method, ability
from ganatomy.images.files import read
from ganatomy.images.image import ComputedArray, Image
from ganatomy.inference.tiling import Tiler, rolling

Which = Literal["best", "last"]
WEIGHTS: Mapping[str, str] = {"best": "weights.safetensors", "last": "weights-last.safetensors"}


def read_run(folder: Path) -> dict[str, Any]:
    """The ``run.yaml`` of a run.

    Raises:
        UserError: no run there, or the file is damaged.
    """
    path = folder / "run.yaml"
    if not path.is_file():
        raise UserError(
            f"{folder}: no run here (run.yaml is missing); give the folder that `ganatomy train --out` made"
        )
    try:
        facts = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {"system": str(facts["system"]), "config": dict(facts["config"]), **facts}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged or not a run ({type(error).__name__}); restore it, or train again") from None


def build(facts: Mapping[str, Any]) -> Method:
    """The untrained method that a run describes."""
    cls = catalogue.load(facts["system"])
    config = cls.Config.preset("paper", **facts["config"])
    try:
        method: Method = cls(config)
    except (RuntimeError, ValueError, ZeroDivisionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{facts['system']}: no network can be built with these options: {reason}") from error
    return method


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        UserError: naming what can be used instead.
    """
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device}: use cpu, cuda or auto")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no usable GPU; use --device cpu")


def load(folder: str | Path, which: Which = "best", device: str = "cpu") -> Model:
    """Load a trained method from its run folder.

    Args:
        folder: made by ``ganatomy train``.
        which: ``best`` on the validation data, or ``last``.
        device: where it runs, such as ``cuda``.

    Raises:
        UserError: no run there, no weights yet, weights of another method, or no such device.
    """
    folder = Path(folder)
    facts = read_run(folder)
    check_device(device)
    path = folder / WEIGHTS[which]
    if not path.is_file():
        raise UserError(f"{path}: no weights yet; train first, or take the other ones with --which")
    try:
        method = build(facts)
    except UserError as error:
        raise UserError(f"{folder / 'run.yaml'}: {error}") from None
    try:
        tensors = load_file(path)
        method.load_state_dict(tensors, strict=False)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged weights ({error})") from None
    except RuntimeError:
        raise UserError(f"{path}: weights of another method or configuration than {facts['system']}") from None
    expected = {name for name, value in method.state_dict().items() if isinstance(value, torch.Tensor)}
    if expected != set(tensors):
        raise UserError(f"{path}: weights of another method or configuration than {facts['system']}")
    if method.dims == 2:
        # CPU convolutions take two thirds of the time in this layout.
        method = method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Model(method.to(device).inference_mode(), facts, folder, device)


@dataclass
class Model:
    """A trained method: ``model(image)`` does its task on images in physical units.

    Attributes:
        method: in the state in which it is used.
        facts: the ``run.yaml``.
        folder: of the run.
        device: where it runs.
    """

    method: Method
    facts: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    device: str = "cpu"

    def __call__(self, image: Image | str | Path | NDArray[Any], unit: str | None = None) -> Image:
        """Apply the method; see :meth:`restore`.

        Args:
            image: an image, a path to one, or an array (rows, columns) or (slices, rows, columns).
            unit: of an array, such as ``HU``.
        """
        if isinstance(image, str | Path):
            image = read(Path(image))
        elif not isinstance(image, Image):
            image = Image.from_array(image, unit=unit)
        return self.restore(image)

    def restore(self, image: Image) -> Image:
        """The restored image on the same grid, float32 in the target's unit, computed slab by slab when it is read.

        Raises:
            UserError: the image does not fit what the method was trained on.
        """
        task = self.method.task
        task.check(image)
        source, target = task.codecs["input"].bind(image), task.codecs["target"].bind(image)
        tiler = Tiler(
            ability(self.method, "restore"),
            self.method.dims,
            self.method.margin,
            self.method.multiple,
            self.device,
        )

        image = rolling(image)

        def encoded(start: int, stop: int) -> NDArray[np.float32]:
            return np.asarray(source.encode(image.slab(start, stop).astype(np.float32)), np.float32)

        def slab(start: int, stop: int) -> NDArray[np.float32]:
            return np.asarray(target.decode(tiler(encoded, image.shape, start, stop)), np.float32)

        return image.with_array(ComputedArray((1, *image.shape), np.float32, slab, tiler.thickness), unit=target.unit)
