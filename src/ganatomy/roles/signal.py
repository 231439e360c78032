"""Signals: one or several channels along one axis, such as an ECG or the geometry of a vessel along its centre-line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Array, Openable, Preparation, slab
from ganatomy.errors import UserError
from ganatomy.images.frames import Frame
from ganatomy.images.image import Image
from ganatomy.images.paths import replacing
from ganatomy.roles.scaled import ScaledRole
from ganatomy.roles.tables import file_source, number, read_npz, read_rows, write_rows


@dataclass(frozen=True, eq=False)
class Signal:
    """Samples of one or several channels at equal steps.

    Attributes:
        values: (channels, samples), real numbers in physical units.
        step: distance between samples, in the unit of the axis (mm, s).
        names: names of the channels; empty where they are not known.
        path: path of the file that the signal was read from, if any.
    """

    values: NDArray[Any]
    step: float = 1.0
    names: tuple[str, ...] = ()
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or 0 in self.values.shape:
            raise ValueError(f"a signal is (channels, samples), not {self.values.shape}")
        if self.names and len(self.names) != len(self.values):
            raise ValueError(f"{len(self.names)} names for {len(self.values)} channels")
        if not self.step > 0:
            raise ValueError(f"the step between samples must be positive, not {self.step}")

    @property
    def label(self) -> str:
        """Name of the signal for messages: its file, where it has one."""
        return str(self.path or "the signal in memory")


@dataclass(frozen=True)
class SignalRole(ScaledRole):
    """A signal, stored as a volume of one slice and one row: (channels, 1, 1, samples).

    The cutting of patches, tiling and 1D networks therefore treat it like an image. A signal is resampled to the length
    of the working grid only where ``Preparation.size`` has one number.

    Values are `Signal`, arrays (channels, samples) or (samples), or images of one slice that hold such an array.

    Attributes:
        names: names of the channels, in the order of the tensor; columns of files are found by these names.
    """

    names: tuple[str, ...] = field(default=("signal",), kw_only=True)

    kind: ClassVar[str] = "signal"
    suffix: ClassVar[str | None] = ".csv"

    @property
    def channels(self) -> int:
        """Number of channels of the signal."""
        return len(self.names)

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Return the source of the CSV file (one column per channel) or NPZ file ``text``; see `read_signal`."""
        readers = dict.fromkeys((".csv", ".npz"), self.read)
        return file_source(folder / text, readers)

    def read(self, path: Path) -> Signal:
        """Return the signal of a file, with the channels of this role."""
        return read_signal(path, self.names)

    @property
    def prepared_as(self) -> str:
        """Text with the names of the channels in order, by which columns of a file are chosen."""
        return f"{super().prepared_as} {list(self.names)}"

    def check(self, value: Any) -> None:
        """Refuse signals with another number of channels or with values that are not finite."""
        signal = as_signal(value)
        if len(signal.values) != self.channels:
            raise UserError(
                f"{signal.label}: {len(signal.values)} channels, but {self.name} has {', '.join(self.names)}"
            )
        if not np.isfinite(signal.values).all():
            raise UserError(f"{signal.label}: values that are not finite; repair or leave it out")

    def plan(self, value: Any, preparation: Preparation) -> Frame:
        """Return the frame to the working grid, which has one slice and one row."""
        size = preparation.size if preparation.size is not None and len(preparation.size) == 1 else None
        image = as_image(as_signal(value))
        if size is None:
            return Frame.plan(image, "stored")
        fill = dict(preparation.fill).get(self.name, 0.0)
        spacing = None if preparation.spacing is None else (1.0, 1.0, preparation.spacing[2])
        return Frame.plan(image, "stored", spacing, size, preparation.fit, fill)

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return the signal on the working grid, (channels, 1, 1, samples)."""
        image = as_image(as_signal(value))
        array: Array = frame.into(image).array if frame else image.array
        return array

    def value(self, array: Array, frame: Frame | None, like: Any) -> Signal:
        """Return an array as a signal with the samples of its source."""
        back = frame.back(array) if frame else array
        step = float(np.linalg.norm(frame.affine[:3, 2])) if frame else 1.0
        return Signal(slab(back, 0, 1)[:, 0, 0], step, self.names)

    def bind(self, value: Any) -> Self:
        """Return the role with a codec that has the numbers of one signal."""
        return super().bind(value if isinstance(value, Image) else as_image(as_signal(value)))

    def quarter_turns(self, patch: NDArray[Any], turns: int) -> NDArray[Any]:
        """Raise `ValueError`: a signal has no plane in which it could be rotated."""
        raise ValueError(f"{self.name} is a signal, which cannot be rotated: its stream must have no quarter turns")

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write a CSV file with one column per channel, or an NPZ file with ``signal``, ``step`` and ``names``."""
        signal = as_signal(value)
        names = signal.names or self.names
        if path.suffix.lower() == ".npz":
            with replacing(path) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, signal=signal.values, step=signal.step, names=np.array(names))
            return
        write_rows(path, names, signal.values.T)

    def describe(self) -> dict[str, Any]:
        """Return the role as values that JSON can hold, with its channels and codec."""
        return {**super().describe(), "names": list(self.names)}


def as_signal(value: Any) -> Signal:
    """Convert a bare array or an image of one slice to a signal.

    Args:
        value: a `Signal`, an array (samples), (channels, samples) or (channels, 1, 1, samples), or an image that holds
            one of these.

    Raises:
        UserError: the value has more axes than a signal.
    """
    if isinstance(value, Signal):
        return value
    label = value.header.label if isinstance(value, Image) else "the signal in memory"
    values = value.numpy() if isinstance(value, Image) else np.asarray(value)
    long = [extent for extent in values.shape if extent != 1]
    channels_first = values.ndim < 3 or values.shape[1:3] == (1, 1) or len(values) == 1
    if len(long) > 2 or not channels_first or values.ndim == 0:
        raise UserError(f"{label} has the shape {values.shape}, but a signal is (channels, samples)")
    if values.ndim > 2:
        values = values[:, 0, 0] if values.shape[1:3] == (1, 1) else values.reshape(-1, values.shape[-1])
    step = value.spacing[2] if isinstance(value, Image) else 1.0
    path = value.header.paths[0] if isinstance(value, Image) and value.header.paths else None
    return Signal(np.atleast_2d(values), step, path=path)


def as_image(signal: Signal) -> Image:
    """Convert a signal to a volume of one slice and one row, whose columns are the samples."""
    affine = np.diag([1.0, 1.0, signal.step, 1.0])
    return Image(signal.values[:, None, None], affine)


def read_signal(path: Path, names: Sequence[str]) -> Signal:
    """Read a signal from a CSV or NPZ file.

    - CSV: one column per channel, one row per sample. With a header, the columns with the names of the channels are
      taken; without one, all columns, of which there must be as many as channels.
    - NPZ: ``signal`` (channels, samples), or an array (samples) for each channel, with the name of the channel;
      optionally ``step``.

    Args:
        path: path of the file.
        names: names of the channels.

    Raises:
        UserError: the file cannot be read, or lacks a channel.
    """
    if path.suffix.lower() == ".npz":
        return _from_arrays(path, names, read_npz(path))
    first, *rest = read_rows(path)
    titled = not all(_is_number(cell) for cell in first)
    rows = rest if titled else [first, *rest]
    if titled:
        titles = [name.lower() for name in first]
        if missing := [name for name in names if name.lower() not in titles]:
            raise UserError(f"{path} has the columns {', '.join(first)}, but no {missing[0]}")
        places = [titles.index(name.lower()) for name in names]
    elif len(first) != len(names):
        raise UserError(f"{path} has {len(first)} columns for {len(names)} channels; name them {', '.join(names)}")
    else:
        places = list(range(len(names)))
    if not rows:
        raise UserError(f"{path} holds no samples")
    values = np.empty((len(names), len(rows)))
    for sample, row in enumerate(rows):
        for channel, place in enumerate(places):
            cell = row[place] if place < len(row) else ""
            values[channel, sample] = number(cell, f"{path} sample {sample + 1}, {names[channel]}")
    return Signal(values, names=tuple(names), path=path)


def _from_arrays(path: Path, names: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Signal:
    step = number(arrays["step"], f"{path}: step") if "step" in arrays else 1.0
    if step <= 0:
        raise UserError(f"{path}: the step between samples must be positive, not {step:g}")
    if "signal" in arrays:
        values = np.atleast_2d(arrays["signal"])
    elif missing := [name for name in names if name not in arrays]:
        raise UserError(f"{path} holds {', '.join(arrays)}: it needs signal, or {missing[0]}")
    else:
        parts = [np.atleast_1d(arrays[name]) for name in names]
        if any(part.shape != parts[0].shape or part.ndim != 1 for part in parts):
            raise UserError(f"{path}: {', '.join(names)} do not all have the shape (samples)")
        values = np.stack(parts)
    if values.ndim != 2 or values.dtype.kind not in "biuf" or 0 in values.shape:
        raise UserError(
            f"{path}: shape {values.shape} of {values.dtype}, but a signal is real numbers (channels, samples)"
        )
    if len(values) != len(names):
        raise UserError(f"{path} has {len(values)} channels for {', '.join(names)}")
    return Signal(values, step, tuple(names), path)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
