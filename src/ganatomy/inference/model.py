"""A trained run, ready for cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ganatomy import catalogue
from ganatomy.case import Held, Openable, Prediction, Role
from ganatomy.catalogue import System
from ganatomy.errors import UserError
from ganatomy.game import Method
from ganatomy.images.files import find
from ganatomy.images.image import Image
from ganatomy.inference.predictor import Options, Predictor, predictor_class, predictor_of
from ganatomy.inference.runfile import RUN_FILE, RunFile, check_method, digest_of, read_run, system_of
from ganatomy.inference.runfile import Which as Which

WEIGHTS: Mapping[str, str] = {"best": "weights.safetensors", "last": "weights-last.safetensors"}
CALIBRATION = "calibration.json"


def build(system: str | System, config: Mapping[str, Any]) -> Method:
    """The untrained method of a system.

    Args:
        system: or what the user calls it, as `catalogue.resolve` takes it.
        config: values of its configuration.

    Raises:
        UserError: unknown system or options, or options with which no network can be built.
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
    """The untrained method that a run describes.

    Args:
        folder: of the run.
        facts: its run file.
        system: of the run, which must be named where it is neither part of ganatomy nor registered by a package.

    Raises:
        UserError: a run of another or of an unnamed system, another revision of the method, or a configuration that
            does not fit it.
    """
    path = folder / RUN_FILE
    system = system_of(path, facts, system)
    try:
        check_method(path, facts, system.cls)
        method = build(system, facts.config)
    except UserError as error:
        raise UserError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    now, then = ([(name, one["kind"]) for name, one in roles.items()] for roles in (described(method), facts.roles))
    if now != then:
        raise UserError(
            f"{path}: trained with the roles {_listed(then)}, but now {facts.system} has {_listed(now)}; "
            f"use ganatomy {facts.versions.get('ganatomy', 'that made it')}, or train again"
        )
    return method


def described(method: Method) -> dict[str, dict[str, Any]]:
    """The roles of a method in their order, as plain values."""
    return {name: role.describe() for name, role in method.task.roles.items()}


def _listed(roles: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in roles)


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


def load(folder: str | Path, which: Which = "best", device: str = "cpu", system: str | System | None = None) -> Model:
    """Load a trained method from its run folder.

    Args:
        folder: made by ``ganatomy train``.
        which: ``best`` on the validation data, or ``last``.
        device: where it runs, such as ``cuda``, or ``auto``.
        system: of the run. A method from outside that no installed package has registered must be named, as
            ``file.py:Class`` or ``package.module:Class``: a run folder alone imports nothing.

    Raises:
        UserError: no run there, one of another or of an unnamed system, no weights yet, weights that are not the run's
            own, or no such device.
    """
    folder = Path(folder)
    facts = read_run(folder)
    system = system_of(folder / RUN_FILE, facts, None if system is None else catalogue.resolve(system))
    device = chosen_device(device)
    path = folder / WEIGHTS[which]
    if not path.is_file():
        raise UserError(f"{path}: no weights yet; train first, or take the other ones with --which")
    method = build_run(folder, facts, system)
    try:
        tensors = load_file(path)
        method.load_state_dict(tensors, strict=False)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged weights ({error})") from None
    except RuntimeError:
        raise UserError(f"{path}: weights of another method or configuration than {facts.system}") from None
    expected = {name for name, value in method.state_dict().items() if isinstance(value, torch.Tensor)}
    if expected != set(tensors):
        raise UserError(f"{path}: weights of another method or configuration than {facts.system}")
    if method.dims == 2:
        # CPU convolutions take two thirds of the time in this layout.
        method = method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    identity = digest_of(tensors)
    if identity not in (facts.weights.get(which), facts.writing.get(which)):
        raise UserError(
            f"{path}: not the weights that {RUN_FILE} describes, so damaged or replaced; restore it, or train again"
        )
    calibration = read_calibration(folder, identity)
    return Model(method.to(device).inference_mode(), facts, folder, device, calibration, identity, system)


def read_calibration(folder: Path, identity: str) -> Mapping[str, Any] | None:
    """Numbers that were calibrated for these weights, such as thresholds; None where they have not been calibrated.

    Args:
        folder: of the run.
        identity: of the weights. Numbers of other ones, such as those of an earlier round, do not count.

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
    """A trained method: ``model(image)`` or ``model(t1=..., t2=...)`` does its task on values in physical units.

    Attributes:
        method: in the state in which it is used.
        facts: the ``run.yaml``; None of a method that has no run.
        folder: of the run.
        device: where it runs.
        calibration: numbers calibrated for its weights, where there are any.
        identity: digest of the weights.
        system: of the run; None of a method that has no run.
    """

    method: Method
    facts: RunFile | None = None
    folder: Path | None = None
    device: str = "cpu"
    calibration: Mapping[str, Any] | None = None
    identity: str = ""
    system: System | None = None

    def predictor(self, ability: str | None = None, options: Options | None = None) -> Predictor:
        """The predictor of an ability; the first one unless told otherwise.

        Raises:
            UserError: the system has no such ability.
        """
        return predictor_of(self.method, self.device, ability, options, self.calibration)

    def __call__(
        self, image: Any = None, /, *, ability: str | None = None, unit: str | None = None, seed: int = 0, **values: Any
    ) -> Prediction:
        """Everything the method makes of one case.

        Args:
            image: value of the main input: a path, an image, or an array (rows, columns), (slices, rows, columns) or
                (channels, slices, rows, columns).
            ability: of systems with several; None means the first.
            unit: of arrays, such as ``HU``.
            seed: of what is drawn, where anything is.
            values: role to value, where a system takes several.

        Raises:
            UserError: a role is missing or unknown, or a value does not fit what the method was trained on.
        """
        cls = predictor_class(self.method.task, ability)
        options = cls.Options.of({name: values.pop(name) for name in cls.Options.model_fields if name in values})
        predictor = self.predictor(ability, options)
        if image is not None:
            values = {predictor.inputs[0]: image, **values}
        return predictor.predict(predictor.sample_of(opened_values(values, self.method.task.roles, unit)), seed)


def opened_values(values: Mapping[str, Any], roles: Mapping[str, Role], unit: str | None = None) -> dict[str, Any]:
    """Paths, arrays and values of one case, as values of its roles.

    An array lies where the images beside it lie, if it has as many voxels as the first of them, else anywhere.

    Args:
        values: role to path, array or value.
        roles: name to role.
        unit: of arrays.

    Raises:
        UserError: a path that cannot be read, or that holds several images.
    """
    opened = {
        name: roles[name].source(str(value), Path(), single).open()
        if isinstance(value, str | Path) and name in roles
        else value
        for name, value in values.items()
    }
    grid = next((value for value in opened.values() if isinstance(value, Image)), None)
    for name, value in opened.items():
        if isinstance(value, np.ndarray) and name in roles and roles[name].on_grid:
            image = Image.from_array(value, unit=unit)
            beside = grid is not None and image.shape == grid.shape
            opened[name] = replace(image, affine=grid.affine, offsets=grid.offsets) if beside and grid else image
    return opened


def single(path: Path) -> Openable:
    """The one image at a path.

    Raises:
        UserError: nothing or several images are there.
    """
    from ganatomy.images.files import read

    sources = find(path)
    return sources[0] if len(sources) == 1 else Held(read(path), (path,))
