"""Trained models: building a method, loading it from a run folder, and calling it on values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ganatomy import catalogue
from ganatomy.case import Prediction
from ganatomy.catalogue import System
from ganatomy.data.memory import opened_values
from ganatomy.errors import UnknownOption, UserError, shortage
from ganatomy.game import Method
from ganatomy.inference.predictor import Options, Predictor, predictor_class, predictor_of
from ganatomy.inference.runfile import (
    RUN_FILE,
    RunFile,
    check_method,
    digest_of,
    of_another_version,
    read_run,
    system_of,
)
from ganatomy.inference.runfile import Which as Which
from ganatomy.nets.enlarging import restore_enlarged
from ganatomy.nets.spectral import restore_norms

WEIGHTS: Mapping[Which, str] = {"best": "weights.safetensors", "last": "weights-last.safetensors"}
CALIBRATION = "calibration.json"


def build(system: str | System, config: Mapping[str, Any]) -> Method:
    """Build the untrained method of a system.

    Args:
        system: the system, or a name that `catalogue.resolve` accepts.
        config: option to value; others are those of the paper.

    Raises:
        UserError: the system or an option is unknown, or no network can be built with the options.
    """
    system = catalogue.resolve(system)
    cls = system.cls
    chosen = cls.Config.preset("paper", **config)
    try:
        method: Method = cls.of(chosen)
    except (RuntimeError, ValueError, ZeroDivisionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{system.slug}: no network can be built with these options: {reason}") from error
    return method


def build_run(folder: Path, facts: RunFile, system: System | None = None) -> Method:
    """Build the untrained method that a run file describes.

    Args:
        folder: run folder.
        facts: run file.
        system: system of the run; required where it is neither part of ganatomy nor registered by a package.

    Raises:
        UserError: the run is of another system, or of one that must be named; the revision of the method differs, or
            its configuration does not fit.
    """
    path = folder / RUN_FILE
    system = system_of(path, facts, system)
    try:
        check_method(path, facts, system.cls)
        method = build(system, facts.config)
    except UnknownOption as error:
        raise of_another_version(path, facts.versions, error.names) from None
    except UserError as error:
        raise type(error)(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    now, then = ([(name, one["kind"]) for name, one in roles.items()] for roles in (described(method), facts.roles))
    if now != then:
        raise UserError(
            f"{path}: trained with the roles {_listed(then)}, but now {facts.system} has {_listed(now)}; "
            f"use ganatomy {facts.versions.get('ganatomy', 'that made it')}, or train again"
        )
    return method


def described(method: Method) -> dict[str, dict[str, Any]]:
    """Describe the roles of a method in their order, as values that JSON can hold."""
    return {name: role.describe() for name, role in method.task.roles.items()}


def _listed(roles: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in roles)


def check_device(device: str) -> None:
    """Refuse a device that cannot be used.

    Raises:
        UserError: the device is unknown or not available; the message names others.
    """
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device}: use cpu, cuda or auto")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no usable GPU; use --device cpu")


def chosen_device(device: str) -> str:
    """Return the device of an option; ``auto`` is a GPU where there is one, else the CPU.

    Raises:
        UserError: the device is not available.
    """
    check_device(device)
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def load(
    folder: str | Path,
    which: Which = "best",
    device: str = "cpu",
    system: str | System | type[Method] | None = None,
) -> Model:
    """Load a trained method from its run folder.

    Args:
        folder: run folder made by ``ganatomy train``.
        which: weights to load, ``best`` on the validation data or ``last``.
        device: device of the networks, such as ``cuda``, or ``auto``.
        system: system of the run. A method from outside that no installed package has registered must be named, as
            ``file.py:Class`` or ``package.module:Class``, or given as its class, since code is never imported because
            of a run folder.

    Raises:
        UserError: the folder holds no run, one of another system or of one that must be named, no weights yet, or
            weights of another run; or the device is not available.
    """
    folder = Path(folder)
    facts = read_run(folder)
    system = system_of(folder / RUN_FILE, facts, None if system is None else catalogue.resolve(system))
    device = chosen_device(device)
    path = folder / WEIGHTS[which]
    if not path.is_file():
        raise UserError(f"{path}: no weights yet; train first, or take the other ones with --which")
    method = build_run(folder, facts, system)
    tensors = read_weights(path)
    restore_enlarged(method, tensors)
    restore_norms(method, tensors)
    try:
        method.load_state_dict(tensors, strict=False)
    except RuntimeError:
        raise UserError(f"{path}: weights of another method or configuration than {facts.system}") from None
    expected = {name for name, value in method.state_dict().items() if isinstance(value, torch.Tensor)}
    if expected != set(tensors):
        raise UserError(f"{path}: weights of another method or configuration than {facts.system}")
    if method.dims == 2:
        # CPU convolutions need only two thirds of the time in this layout.
        method = method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    identity = check_weights(folder, facts, which, tensors)
    calibration = read_calibration(folder, identity)
    return Model(method.to(device).inference_mode(), facts, folder, device, calibration, identity, system)


def check_weights(folder: Path, facts: RunFile, which: Which, tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the digest of weights, which must be the ones that a run file describes.

    Args:
        folder: run folder.
        facts: run file.
        which: which weights they are.
        tensors: weights by name.

    Raises:
        UserError: the file of the weights was changed, or comes from another run.
    """
    identity = digest_of(tensors)
    if identity not in (facts.weights.get(which), facts.writing.get(which)):
        raise UserError(
            f"{folder / WEIGHTS[which]}: not the weights that {RUN_FILE} describes, so the file was changed or comes "
            "from another run; restore it, or train again"
        )
    return identity


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of weights, on the CPU.

    Raises:
        UserError: the file is damaged, or cannot be read.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        if short := shortage(error, path):
            raise short from None
        raise UserError(f"{path}: damaged weights ({error}); restore the file, or train again") from None


def read_calibration(folder: Path, identity: str) -> Mapping[str, Any] | None:
    """Read the calibration of weights, such as thresholds; None where they have not been calibrated.

    Args:
        folder: run folder.
        identity: digest of the weights; calibrations of other weights, such as those of an earlier round, are ignored.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get(identity)
        return dict(found) if found else None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}); delete it, and train with --resume") from None


@dataclass
class Model:
    """A trained method, which is applied to values in physical units by ``model(image)`` or ``model(t1=..., t2=...)``.

    Attributes:
        method: method in its inference mode.
        facts: run file; None for a method without a run.
        folder: run folder; None for a method without a run.
        device: device of the networks.
        calibration: calibration of the weights; None where they are not calibrated.
        identity: digest of the weights.
        system: system of the run; None for a method without a run.
    """

    method: Method
    facts: RunFile | None = None
    folder: Path | None = None
    device: str = "cpu"
    calibration: Mapping[str, Any] | None = None
    identity: str = ""
    system: System | None = None

    def to(self, device: str) -> Self:
        """Move the networks to a device, such as ``cuda``, ``cpu`` or ``auto``, and return the model.

        Raises:
            UserError: the device is not available.
        """
        self.device = chosen_device(device)
        self.method.to(self.device)
        return self

    def export_onnx(self, path: str | Path, ability: str | None = None, overwrite: bool = False) -> Path:
        """Write the network as ONNX, and beside it as JSON the roles, codecs and tiling with which it is used.

        Needs the extra ``ganatomy[onnx]``. ONNX Runtime must give the outputs of torch before anything is written.

        Args:
            path: file with the suffix .onnx; the description has its name and .json.
            ability: ability to export; None means the first.
            overwrite: whether to replace existing files.

        Raises:
            UserError: packages are missing, files are in the way, or predictions of the system are more than a network
                that is applied to encoded images, such as those of a search or a scan.
        """
        from ganatomy.inference.export import export_onnx

        return export_onnx(self, path, ability, overwrite)

    def predictor(self, ability: str | None = None, options: Options | None = None) -> Predictor:
        """Return the predictor for an ability, by default the first ability.

        Raises:
            UserError: the system does not have the ability.
        """
        return predictor_of(self.method, self.device, ability, options, self.calibration)

    def __call__(
        self,
        image: Any = None,
        /,
        *,
        ability: str | None = None,
        unit: str | None = None,
        spacing: Sequence[float] | None = None,
        seed: int = 0,
        **values: Any,
    ) -> Prediction:
        """Apply the method to one case.

        Args:
            image: value of the main input: a path, an `Image`, an array (rows, columns), (slices, rows, columns) or
                (channels, slices, rows, columns), a tensor of torch (slices, channels, rows, columns), or an image of
                nibabel, SimpleITK or Pillow; see `Image.of`.
            ability: ability to use; None means the first.
            unit: unit of images that state none, such as ``HU``.
            spacing: mm between slices, rows and columns, for arrays and other images that state none.
            seed: seed of random draws, for methods that have any.
            values: role to value for systems with several inputs, and options of the predictor.

        Raises:
            UserError: a role is missing or unknown, or a value does not fit the method.
        """
        cls = predictor_class(self.method.task, ability)
        options = cls.Options.of({name: values.pop(name) for name in cls.Options.model_fields if name in values})
        predictor = self.predictor(ability, options)
        if image is not None:
            values = {predictor.inputs[0]: image, **values}
        opened = opened_values(values, self.method.task.roles, unit, spacing)
        return predictor.predict(predictor.sample_of(opened), seed)
