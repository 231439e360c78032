"""A trained method, ready for images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
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
from ganatomy.game import Method
from ganatomy.images.codecs import Window
from ganatomy.images.files import read
from ganatomy.images.image import ComputedArray, Image
from ganatomy.inference.detecting import Calibration, Findings, detect_image, read_calibration
from ganatomy.inference.prepared import tiler_of
from ganatomy.inference.tiling import finer, rolling
from ganatomy.tasks.anomaly_detection.task import Detector
from ganatomy.tasks.base import ImageToImage
from ganatomy.tasks.synthesis.task import Synthesiser

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
        method: Method = cls.of(config)
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


def chosen_device(device: str) -> str:
    """The device that is meant: ``auto`` is a GPU where there is one.

    Raises:
        UserError: it is not there.
    """
    check_device(device)
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def load(folder: str | Path, which: Which = "best", device: str = "cpu") -> Model:
    """Load a trained method from its run folder.

    Args:
        folder: made by ``ganatomy train``.
        which: ``best`` on the validation data, or ``last``.
        device: where it runs, such as ``cuda``, or ``auto``.

    Raises:
        UserError: no run there, no weights yet, weights of another method, or no such device.
    """
    folder = Path(folder)
    facts = read_run(folder)
    device = chosen_device(device)
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
    calibration = read_calibration(folder, identity(path)) if isinstance(method, Detector) else None
    return Model(method.to(device).inference_mode(), facts, folder, device, calibration)


def identity(weights: Path) -> str:
    """What tells these weights from all others: the digest of their file."""
    with weights.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@dataclass
class Model:
    """A trained method: ``model(image)`` does its task on images in physical units.

    Attributes:
        method: in the state in which it is used.
        facts: the ``run.yaml``.
        folder: of the run.
        device: where it runs.
        calibration: thresholds of a detector, where it has been calibrated.
    """

    method: Method
    facts: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    device: str = "cpu"
    calibration: Calibration | None = None

    def __call__(self, image: Image | str | Path | NDArray[Any], unit: str | None = None) -> Image:
        """Apply the method: restored images of those that restore, maps of what is abnormal of those that detect.

        Args:
            image: an image, a path to one, or an array (rows, columns) or (slices, rows, columns).
            unit: of an array, such as ``HU``.
        """
        if isinstance(image, str | Path):
            image = read(Path(image))
        elif not isinstance(image, Image):
            image = Image.from_array(image, unit=unit)
        if isinstance(self.method, Detector):
            return self.detect(image).map
        return self.restore(image)

    def restore(self, image: Image) -> Image:
        """The restored image, float32 in the target's unit, computed slab by slab when it is read.

        It lies on the grid of the image, or on one as much finer as the method makes it.

        Raises:
            UserError: the image does not fit what the method was trained on.
        """
        task = self.method.task
        if not isinstance(task, ImageToImage):
            raise UserError(f"{self.facts.get('system', 'this system')} cannot turn an image into another one")
        image = task.received(image)
        task.check(image)
        source, target = task.bound(image)
        tiler, frame = tiler_of(self.method, self.device), task.framing
        image = rolling(image)
        rows, columns = frame.size if frame else image.shape[1:]
        seen = (image.shape[0], rows, columns)
        outside = target.low if isinstance(target, Window) else 0.0

        def encoded(start: int, stop: int) -> NDArray[np.float32]:
            return task.presented(image.slab(start, stop).astype(np.float32), source)

        def slab(start: int, stop: int) -> NDArray[np.float32]:
            made = np.asarray(target.decode(tiler(encoded, seen, start, stop)), np.float32)
            return frame.back(made, image.shape[1:], outside) if frame else made

        fine = [extent * times for extent, times in zip(image.shape, tiler.scale, strict=True)]
        shape = (task.channels.get(task.product, 1), fine[0], fine[1], fine[2])
        array = ComputedArray(shape, np.float32, slab, tiler.thickness(image.shape[0]))
        return replace(image, unit=target.unit).with_geometry(array, finer(image.affine, tiler.scale))

    def detect(self, image: Image) -> Findings:
        """What is abnormal, on the grid of the image.

        Raises:
            UserError: the system finds nothing abnormal, or the image does not fit what it was trained on.
        """
        if not isinstance(self.method, Detector):
            raise UserError(f"{self.facts.get('system', 'this system')} does not look for what is abnormal")
        return detect_image(self.method, image, self.device, self.calibration)

    def sample(
        self, seeds: Iterable[int], label: str | None = None, truncation: float = 1.0
    ) -> dict[str, NDArray[np.float32]]:
        """Synthetic images in physical units by role, (n, channels, [slices,] rows, columns).

        Args:
            seeds: one per image; an image depends on its own seed alone.
            label: of all of them, for systems that make images of a given class; none means all in turn, by seed.
            truncation: below 1, more typical and less varied.

        Raises:
            UserError: the system makes no images from noise, or knows no such label.
        """
        self.check_label(label)
        method = self.method
        assert isinstance(method, Synthesiser)
        seeds, labels = list(seeds), None
        if method.labelled:
            classes = method.task.classes
            labels = torch.tensor([classes.index(label) if label else seed % len(classes) for seed in seeds])
        return method.decoded(method.images(seeds, labels, truncation, self.device))

    def check_label(self, label: str | None = None) -> None:
        """Refuse to sample where that is impossible.

        Raises:
            UserError: the system makes no images from noise, or knows no such label.
        """
        method = self.method
        if not isinstance(method, Synthesiser):
            raise UserError(f"{self.facts.get('system', 'this system')} makes no images from noise")
        classes = method.task.classes
        if label is not None and not (method.labelled and label in classes):
            known = f"there are {', '.join(classes)}" if method.labelled else "this run has no labels to choose from"
            raise UserError(f"--label {label}: {known}")
