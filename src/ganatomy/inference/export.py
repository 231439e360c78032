"""Export of trained networks to ONNX, with a description of all that a program around them has to do."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganatomy.case import Role, Sample
from ganatomy.errors import UserError
from ganatomy.game import Method
from ganatomy.images.codecs import Window
from ganatomy.images.image import Image
from ganatomy.images.paths import replacing
from ganatomy.inference.predictor import Predictor
from ganatomy.inference.tiling import TILES

if TYPE_CHECKING:
    from ganatomy.inference.model import Model

SUFFIX = ".onnx"
OPSET = 17
"""Version of the operators of ONNX, which runtimes since 2022 know."""
NEEDED = ("onnx", "onnxruntime")
LARGEST = 64
"""Largest number of rows, columns and slices of the example that the network is traced and compared with."""
SMALLEST = 16
TOLERANCE = 1e-3
"""Largest difference between the outputs of torch and of ONNX Runtime, as a share of the range of the output."""
AXES = {1: ("columns",), 2: ("rows", "columns"), 3: ("slices", "rows", "columns")}
"""Number of axes that a network sees to their names."""


class Call(NamedTuple):
    """Input and output of a network in one call."""

    given: Tensor
    made: Tensor


class Network(nn.Module):
    """An ability of a method as a module, which is what exporters take."""

    def __init__(self, method: Method, ability: str):
        super().__init__()
        self.method, self.ability = method, ability

    def forward(self, block: Tensor) -> Tensor:
        """Apply the ability to (N, channels, [[slices,] rows,] columns) in the range of the networks."""
        made: Tensor = getattr(self.method, self.ability)(block)
        return made


def export_onnx(model: Model, path: str | Path, ability: str | None = None, overwrite: bool = False) -> Path:
    """Write the network of a model as ONNX, and beside it as JSON how its input is made and its output read.

    The file is written only after ONNX Runtime gave the outputs of torch for an example, and for one of another size
    where the network takes any.

    Args:
        model: trained model.
        path: file with the suffix .onnx; the description is the file of its name with .json.
        ability: ability to export; None means the first.
        overwrite: whether to replace existing files.

    Returns:
        Path of the file.

    Raises:
        UserError: packages are missing, a file is in the way, or predictions of the system are more than a network that
            is applied to encoded images.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise UserError(f"{path}: give a name that ends in {SUFFIX}")
    for place in (path, path.with_suffix(".json")):
        if place.exists() and not overwrite:
            raise UserError(f"{place}: exists already; give another name, or overwrite=True")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UserError(f"export to ONNX needs {' and '.join(missing)}: pip install 'ganatomy[onnx]'")
    predictor, name = model.predictor(ability), ability or next(iter(model.method.task.predictors))
    sample, call, output = traced(predictor, name)
    network = Network(model.method, name)
    with replacing(path) as work, replacing(path.with_suffix(".json")) as note:
        free = bool(free_axes(model.method)) and _written(work, network, call, model.method, True)
        if not free and not _written(work, network, call, model.method, False):
            raise UserError(
                f"{_title(model)}: ONNX Runtime does not give the outputs of torch, as where a network draws random "
                "numbers or has operations that ONNX lacks; apply it with ganatomy"
            )
        facts = description(model, predictor, name, sample, call, output, free)
        note.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _title(model: Model) -> str:
    return model.system.title if model.system else type(model.method).__name__


def traced(predictor: Predictor, ability: str) -> tuple[Sample, Call, str]:
    """Predict an example while the calls of the network are recorded.

    Args:
        predictor: predictor of a trained method.
        ability: name of its function.

    Returns:
        The example, what the network was given and returned, and the name of the predicted array that is its output:
        that of the main role, decoded, or another array as it is, such as probabilities.

    Raises:
        UserError: predictions are more than one network that is applied to encoded images.
    """
    task, calls = predictor.method.task, list[Call]()
    names = (*predictor.inputs, *predictor.optional)
    whole = f"{task.name}, {ability}: cannot be exported, since"
    images = [role for role in map(task.roles.__getitem__, names) if role.has_intensities and role.on_grid]
    if not names or len(images) != len(names):
        raise UserError(f"{whole} its input is {', '.join(names) or 'noise'}, and only images are; use ganatomy")
    try:
        with _recording(predictor.method, ability, calls):
            sample = predictor.sample_of(example(predictor, images))
            arrays = predictor.predict(sample).arrays
            found = {name: np.asarray(array) for name, array in arrays.items()}
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{whole} its network cannot be called alone ({error}); use ganatomy") from error
    if len(calls) != 1 or calls[0].given.shape[1] != sum(role.channels for role in images):
        raise UserError(f"{whole} a prediction is more than one pass of a network over its images; use ganatomy")
    made = _unbatched(calls[0].made, predictor.method.dims)
    main = next(iter(predictor.outputs))
    for name, array in found.items():
        inner = made[tuple(slice(length) for length in array.shape)] if made.ndim == array.ndim else made
        values = predictor.made_role(name, sample).decoded(inner) if name == main else inner
        if values.shape == array.shape and np.allclose(values, array, rtol=1e-4, atol=1e-4 * (np.ptp(array) or 1.0)):
            return sample, calls[0], name
    raise UserError(f"{whole} a prediction is computed from the output of its network in further steps; use ganatomy")


@contextmanager
def _recording(method: Method, ability: str, calls: list[Call]) -> Iterator[None]:
    """Record the tensors that an ability takes and returns meanwhile."""
    original: Callable[..., Any] = getattr(method, ability)

    def record(*given: Any, **named: Any) -> Any:
        made = original(*given, **named)
        if named or len(given) != 1 or not (isinstance(given[0], Tensor) and isinstance(made, Tensor)):
            raise TypeError("it takes and returns more than a tensor")
        calls.append(Call(given[0].detach(), made.detach()))
        return made

    method.__dict__[ability] = record
    try:
        yield
    finally:
        del method.__dict__[ability]


def example(predictor: Predictor, roles: Sequence[Role]) -> dict[str, Image]:
    """Return an image of random values for every input, on a grid that the network takes in one pass."""
    method, rng = predictor.method, np.random.default_rng(0)
    shape = size_of(method)
    values = {}
    for role in roles:
        codec = role.codec
        low, high = (codec.low, codec.high) if isinstance(codec, Window) else (0.0, 1000.0)
        drawn = rng.uniform(low, high, (role.channels, *shape)).astype(np.float32)
        spacing: Any = method.task.preparation.spacing or (1.0, 1.0, 1.0)
        values[role.name] = Image.from_array(drawn, spacing, codec.unit if codec else None)
    return values


def size_of(method: Method) -> tuple[int, int, int]:
    """Return slices, rows and columns of an image that the network takes in one pass."""
    fixed, tiling = method.task.preparation.size, method.tiling
    patch = next(iter(method.stages())).streams_in_order[0].patch
    slices, rows, columns = (max(1, min(one, LARGEST)) for one in patch)
    if fixed is not None:
        slices, rows, columns = fixed if len(fixed) == 3 else (slices, *fixed)
    elif tiling.tile is not None:
        slices, rows, columns = tiling.tile
    else:
        slices = max(slices, SMALLEST) if method.dims == 3 else slices
        rows, columns = (max(SMALLEST, -(-one // tiling.multiple) * tiling.multiple) for one in (rows, columns))
    if any(tiling.margin) and fixed is None:
        slices, rows, columns = map(min, (slices, rows, columns), tiling.tile or TILES[method.dims])
    return slices, rows, columns


def free_axes(method: Method) -> tuple[int, ...]:
    """Return the axes of the network's input whose length may change, besides the batch; none for fixed sizes."""
    if method.task.preparation.size is not None or method.tiling.tile is not None:
        return ()
    return tuple(range(2, 2 + method.dims))


def _written(path: Path, network: Network, call: Call, method: Method, free: bool) -> bool:
    """Write the network, and return whether ONNX Runtime gives its outputs; with free axes, also at another size."""
    axes = {0: "batch"}
    if free:
        axes |= dict(zip(free_axes(method), AXES[method.dims], strict=True))
    out = {axis: f"{name} out" if axis else name for axis, name in axes.items()}
    try:
        with torch.no_grad(), warnings.catch_warnings(), _silenced():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network, (call.given,), str(path), dynamo=False, opset_version=OPSET, do_constant_folding=False,
                training=torch.onnx.TrainingMode.PRESERVE, input_names=["input"], output_names=["output"],
                dynamic_axes={"input": axes, "output": out},
            )  # fmt: skip
        blocks = [call.given, call.given[:1]]
        if free:
            more = method.tiling.multiple if method.tiling.multiple > 1 else 4
            longer = [
                length + more * (axis - 1) if axis > 1 else length for axis, length in enumerate(call.given.shape)
            ]
            blocks.append(_mirrored(call.given, longer))
        return all(_agree(path, network, block) for block in blocks)
    except (RuntimeError, ValueError, TypeError, torch.onnx.errors.OnnxExporterError):
        return False


@contextmanager
def _silenced() -> Iterator[None]:
    """Drop what the exporter writes in C++ meanwhile, the whole graph of a network that it cannot translate."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def _mirrored(block: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a block that is continued by mirroring to a larger shape."""
    pad = [(0, new - old) for old, new in zip(block.shape, shape, strict=True)]
    return torch.from_numpy(np.pad(block.cpu().numpy(), pad, mode="symmetric")).to(block.device)


def _agree(path: Path, network: Network, block: Tensor) -> bool:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"input": block.cpu().numpy()})
    except Exception:  # its exceptions share no class of their own
        return False
    with torch.no_grad():
        wanted = network(block).float().cpu().numpy()
    near = TOLERANCE * max(float(np.ptp(wanted)), 1e-6)
    return bool(found.shape == wanted.shape and np.abs(found - wanted).max() <= near)


def _unbatched(made: Tensor, dims: int) -> NDArray[np.float32]:
    """Return the output of one pass as (channels, slices, rows, columns)."""
    values = made.float().cpu()
    if dims == 3:
        return values[0].numpy()
    return (values.transpose(0, 1) if dims == 2 else values.permute(1, 0, 2)[:, None]).numpy()


def description(
    model: Model, predictor: Predictor, ability: str, sample: Sample, call: Call, output: str, free: bool
) -> Mapping[str, Any]:
    """Return all that a program needs to use the network as ganatomy does, as values that JSON can hold."""
    method, task = model.method, model.method.task
    axes, tiling = ("batch", "channels", *AXES[method.dims]), method.tiling
    main = next(iter(predictor.outputs))
    names = (*predictor.inputs, *predictor.optional)
    steps = [
        "bring the images to the working grid (preparation), with axes (channels, slices, rows, columns)",
        "map physical values to the range of the network with the codec of each role",
        "concatenate the channels of the roles in their order",
        "cut tiles with the margin around them, mirrored at the borders of the image, in sizes as tiling says",
        "run the network; it returns the tile without the margin, enlarged by the scale",
        "map the output back with its codec, and to the grid of the source",
    ]
    return {
        "format": "ganatomy ONNX 1",
        "system": model.system.slug if model.system else type(method).__name__,
        "title": _title(model),
        "citation": model.system.citation if model.system else "",
        "weights": model.identity,
        "ganatomy": version("ganatomy"),
        **method.provenance(),
        "ability": ability,
        "opset": OPSET,
        "input": {
            "name": "input",
            "type": "float32",
            "axes": axes,
            "shape": [None, call.given.shape[1], *([None] * method.dims if free else call.given.shape[2:])],
            "roles": [_role(task.roles[name]) for name in names],
        },
        "output": {
            "name": "output",
            "type": "float32",
            "axes": axes,
            "shape": [None, call.made.shape[1], *([None] * method.dims if free else call.made.shape[2:])],
            "role": _role(_decoding(predictor, main, sample) if output == main else predictor.outputs[main]),
            "values": "in the range of the codec" if output == main else output,
            "scale": _scale(task, predictor.outputs[main]) if output == main else "as they are",
        },
        "preparation": task.preparation.model_dump(mode="json"),
        "tiling": {name: getattr(tiling, name) for name in ("margin", "multiple", "scale", "tile", "overlap", "blend")},
        "steps": steps,
        "use": "research only, not for diagnosis",
    }


def _decoding(predictor: Predictor, name: str, sample: Sample) -> Role:
    """Return the role of an output with the scale of the training cases, or unbound where an image gives its own."""
    own = predictor.method.task.same_contrast(name)
    return predictor.outputs[name] if own else predictor.made_role(name, sample)


def _role(role: Role) -> dict[str, Any]:
    codec = role.codec
    return {
        "name": role.name,
        **role.describe(),
        "codec": None if codec is None else codec.model_dump(mode="json"),
        "unit": codec.unit if codec else None,
        "codec is bound": "for each image" if role.adaptive else "once",
    }


def _scale(task: Any, role: Role) -> str:
    if not role.adaptive:
        return "fixed"
    like = task.same_contrast(role.name)
    return f"that of the input {like}" if like else "the median of the training cases, as its codec says"
