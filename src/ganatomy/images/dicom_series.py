"""Series of DICOM frames: which belong together, which volumes they are, and the image that is made of a volume."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import Notice, UserError
from ganatomy.images.archives import shown
from ganatomy.images.dicom_frames import SLICED, Frame
from ganatomy.images.dicom_marks import volumes_of
from ganatomy.images.image import Header, Image, LazyArray, uneven_steps

SAME_PLACE = 0.01
"""Largest distance in mm between slices that lie at one place."""


@dataclass(frozen=True, eq=False)
class Series:
    """Frames of a series in slice order; where it holds several volumes, those of one of them.

    Attributes:
        frames: At least one frame.
        volume: Words that tell the volume from the others of its series, such as "echo 2"; None where there is one.
        problem: Why the frames make no image; None where they do.
    """

    frames: tuple[Frame, ...]
    volume: str | None = None
    problem: str | None = None

    @property
    def title(self) -> str:
        """SeriesDescription, or the number of the series, with the volume."""
        first = self.frames[0]
        title = first.description or f"series {first.number[0]}"
        return f"{title} {self.volume}" if self.volume else title

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files of the frames, each once, in slice order."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))

    @property
    def folder(self) -> Path:
        """Folder of the files, or the first above all of them; an archive counts as one."""
        return Path(commonpath([shown(path).parent for path in self.paths]))


def group(frames: Sequence[Frame]) -> list[Series]:
    """Group frames into series, wherever their files lie, and series into volumes.

    Frames of a series share SeriesInstanceUID and orientation. Without a position, slices of CT, MR and PET are stacked
    by their location or number; other files without one are series of their own, because two radiographs need not be
    neighbours. Folders that each hold a whole series of one UID, as exports of several patients under one pseudonym do,
    stay apart.
    """
    found: list[Series] = []
    for members in _by_identity(frames):
        joint = _volumes(members)
        folders: dict[Path, list[Frame]] = defaultdict(list)
        for frame in members:
            folders[frame.path.parent].append(frame)
        apart = len(folders) > 1 and _repeats(joint, list(folders.values()))
        found += [one for inside in folders.values() for one in _volumes(inside)] if apart else joint
    return sorted(found, key=lambda one: (one.frames[0].number[0], one.frames[0].series, str(one.frames[0].path)))


def _by_identity(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Yield the frames of each series, of one orientation."""
    buckets: dict[tuple[Any, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        # Blank UIDs identify nothing, so such a series ends with its folder.
        buckets[frame.series or frame.path.parent, frame.aside].append(frame)
    for bucket in buckets.values():
        series: list[list[Frame]] = []
        for frame in (frame for frame in bucket if frame.position is not None):
            home = next((one for one in series if np.abs(frame.orientation - one[0].orientation).max() < 1e-3), None)
            if home is None:
                series.append([frame])
            else:
                home.append(frame)
        lost: dict[Any, list[Frame]] = defaultdict(list)
        for frame in (frame for frame in bucket if frame.position is None):
            # A slice that lost its position must not be lost to its series, which `_mismatch` then refuses.
            home = next((one for one in series if frame.series and frame.shape == one[0].shape), None)
            if home is None:
                lost[frame.shape].append(frame)
            else:
                home.append(frame)
        for members in lost.values():
            if _stackable(members):
                series.append(members)
            else:
                files: dict[Path, list[Frame]] = defaultdict(list)
                for frame in members:
                    files[frame.path].append(frame)
                series += files.values()
        yield from series


def _stackable(frames: Sequence[Frame]) -> bool:
    """Return whether files without a position are slices of one volume, whose order is known."""
    if not frames[0].series or any(frame.index is not None or frame.modality not in SLICED for frame in frames):
        return False
    located = all(frame.location is not None for frame in frames)
    orders = {frame.location if located else frame.number for frame in frames}
    return not frames[0].aside and (len(orders) == len(frames) or (located and len(orders) > 1))


def _repeats(joint: Sequence[Series], folders: Sequence[Sequence[Frame]]) -> bool:
    """Return whether folders that hold files of one series each repeat it, and do not complete each other."""
    if any(one.problem for one in joint) and all(
        len(inside) > 1 and not any(one.problem for one in _volumes(inside)) for inside in folders
    ):
        return True
    members = [frame for one in joint for frame in one.frames]
    if len(joint) == 1 and len({frame.patient for frame in members}) > 1:
        return all(len({frame.patient for frame in inside}) == 1 for inside in folders)
    places = _places(members)
    doubled = len(joint) == 1 and len(set(places)) < len(members)
    return doubled and max(len(set(_places(inside))) for inside in folders) == len(set(places))


def _volumes(frames: Sequence[Frame]) -> list[Series]:
    """Return the frames of a series in slice order, split into volumes where several lie at each position."""
    ordered = sorted(frames, key=lambda frame: (frame.depth, frame.number, frame.index or 0, str(frame.path)))
    found = _split(ordered)
    # Volumes may differ, such as magnitudes with a slope and phases without.
    if any(_mismatch(members) for members in found.values()):
        return [Series(tuple(ordered), problem=_mismatch(ordered))]
    sizes = Counter(len(members) for members in found.values())
    usual = max(sizes, key=lambda size: (sizes[size], size))
    series = []
    for volume, members in found.items():
        problem = None
        if len(members) < usual:
            problem = (
                f"{members[0].path.parent}: {volume} has {len(members)} of the {usual} slices that other volumes of "
                "its series have: restore the missing ones, or move its files to a folder of their own"
            )
        series.append(Series(tuple(members), volume, problem))
    return series


def _places(frames: Sequence[Frame]) -> list[int]:
    """Return a number for every frame that is equal for frames at one place."""
    depths = np.array([frame.depth for frame in frames])
    order = np.argsort(depths)
    places = np.empty(len(frames), int)
    places[order] = np.cumsum(np.diff(depths[order], prepend=depths[order[:1]]) > SAME_PLACE)
    return places.tolist()


def _split(frames: Sequence[Frame]) -> dict[str | None, list[Frame]]:
    """Return the volumes of a series in order of what tells them apart, or all frames where nothing does."""
    first = frames[0]
    if first.modality == "SEG" or (first.position is None and first.location is None):
        return {None: list(frames)}
    volumes = volumes_of([frame.marks for frame in frames], _places(frames))
    return {words: [frames[index] for index in members] for words, members in volumes.items()}


def _mismatch(frames: Sequence[Frame]) -> str | None:
    """Return which slice of a series cannot belong to the others, with the reason; None where all do."""
    properties: dict[str, Callable[[Frame], Any]] = {
        "size": lambda frame: f"{frame.shape[0]}x{frame.shape[1]} pixels of {frame.values.channels} channels",
        "patient": lambda frame: frame.patient,
        "modality": lambda frame: frame.modality,
        "rescale": lambda frame: frame.values.stated,
        "unit": lambda frame: frame.values.unit or "no unit",
        "pixel spacing": lambda frame: frame.spacing or "no pixel spacing",
        "polarity": lambda frame: "MONOCHROME1" if frame.inverted else "MONOCHROME2",
        "position": lambda frame: "a position" if frame.position is not None else "no position",
    }
    for name, value in properties.items():
        usual = Counter(map(value, frames)).most_common(1)[0][0]
        for frame in frames:
            own = value(frame)
            if own != usual and not (name == "pixel spacing" and _close(own, usual)):
                # Identities of patients do not belong on screens.
                told = "another patient" if name == "patient" else f"{own} where the others have {usual}"
                return f"{frame.path} has {told}, though it is of their series: move it to a folder of its own"
    return next((frame.problem for frame in frames if frame.problem), None)


def _close(one: Any, other: Any) -> bool:
    return isinstance(one, tuple) and isinstance(other, tuple) and np.allclose(one, other, rtol=1e-3)


def open_series(series: Series, uneven: bool = False) -> Image:
    """Return the image made of a series that has no problem, without decoding any frame.

    Raises `UserError` when the frames are not evenly spaced and `uneven` does not allow that.
    """
    frames = series.frames
    first = frames[0]
    place = shown(series.paths[0]) if len(series.paths) == 1 else series.folder
    stated = all(frame.position is not None for frame in frames)
    positions = _positions(frames)
    if not stated and len(series.paths) > 1:
        order = "SliceLocation" if positions is not None else "InstanceNumber"
        warnings.warn(f"{place}: its slices state no position; they are stacked by {order}", Notice, stacklevel=1)
    if first.spacing is None and first.modality in SLICED:
        warnings.warn(f"{place} states no distance of its pixels; each counts as 1 mm", Notice, stacklevel=1)
    if first.values.ignored:
        told = f"{first.values.unit or 'no unit'} and not in {first.values.ignored}, which a Real World Value Mapping"
        warnings.warn(f"{place} is read in {told} of it states, too", Notice, stacklevel=1)
    if positions is not None and not uneven:
        _check_even(frames, positions)
    affine, offsets = _geometry(frames, positions)
    header = Header(
        kind="dicom",
        paths=tuple(frame.path for frame in frames),
        modality=first.modality,
        subject=first.patient,
        padding=first.padding,
        positions=positions if stated else None,
        frame_numbers=tuple(frame.index + 1 for frame in frames if frame.index is not None),
        frame_of_reference=first.frame_of_reference,
        inverted=first.inverted,
        volume=series.volume,
        unspaced=first.spacing is None,
    )
    return Image(DicomArray(frames), affine, first.values.unit, header, offsets)


def _positions(frames: Sequence[Frame]) -> NDArray[np.float64] | None:
    """Return the positions of slices, or where none states one, their SliceLocations along the normal; else None."""
    positions = [frame.position for frame in frames if frame.position is not None]
    if len(positions) == len(frames):
        return np.stack(positions)
    located = len(frames) > 1 and all(frame.index is None and frame.location is not None for frame in frames)
    return np.stack([frame.depth * frame.normal for frame in frames]) if located else None


def _geometry(
    frames: Sequence[Frame], positions: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return the affine through the first and last slice, and the offset of each slice's position from it."""
    first, last = frames[0], len(frames) - 1
    rows, columns = first.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 1] = first.orientation[1] * rows
    affine[:3, 2] = first.orientation[0] * columns
    affine[:3, 0] = first.normal * first.thickness
    if positions is None:
        return affine, None
    affine[:3, 3] = positions[0]
    if last and np.linalg.norm(positions[-1] - positions[0]) > 1e-3:
        affine[:3, 0] = (positions[-1] - positions[0]) / last
    offsets = positions - (affine[:3, 3] + np.arange(last + 1)[:, None] * affine[:3, 0])
    return affine, offsets if np.abs(offsets).max() > 1e-4 else None


def _check_even(frames: Sequence[Frame], positions: NDArray[np.float64]) -> None:
    wrong = np.flatnonzero(uneven_steps(positions))
    if not len(wrong):
        return
    way = positions[-1] - positions[0]
    length = np.linalg.norm(way)
    along = positions @ (way / length if length > 1e-3 else frames[0].normal)
    doubled = [int(index) for index in wrong if abs(along[index + 1] - along[index]) <= SAME_PLACE]
    if doubled:
        raise UserError(_doubled(frames[doubled[0]], frames[doubled[0] + 1], along[doubled[0]], len(doubled)))
    before, after = wrong[0], wrong[0] + 1
    gap, usual = along[after] - along[before], np.median(np.diff(along))
    raise UserError(
        f"{frames[0].path.parent} is not evenly spaced: {frames[before].path.name} at {along[before]:.2f} mm "
        f"and {frames[after].path.name} at {along[after]:.2f} mm are {gap:.2f} mm apart where slices usually "
        f"are {usual:.2f} mm apart ({len(wrong)} such gaps): restore missing slices, or give --uneven to process slice "
        "by slice, each at its own position"
    )


def _doubled(one: Frame, other: Frame, place: float, number: int) -> str:
    """Return what is wrong with two frames at one place: they are equal, or of volumes that nothing tells apart."""
    if one.path == other.path:
        return (
            f"{one.path} holds several frames at one position, {place:.2f} mm ({number} such pairs), and nothing in "
            "its header (echo, b-value, phase, time) tells which volume each belongs to: convert it to NIfTI"
        )
    told = f"{one.path} and {other.path} lie at one position, {place:.2f} mm ({number} such pairs)"
    again = "or give --uneven to process slice by slice, each at its own position"
    if np.array_equal(one.decode(), other.decode()):
        return f"{told}, and are equal: remove the doubled slices, {again}"
    return (
        f"{told}, but differ, and nothing in their headers (echo, b-value, phase, time) tells which volume each "
        f"belongs to: move the files of each volume to a folder of its own, {again}"
    )


class DicomArray(LazyArray):
    """Lazy array of the pixels of a series; each slab decodes its own slices only."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = tuple(frames)
        rows, columns = frames[0].shape
        self.shape = (frames[0].values.channels, len(frames), rows, columns)
        types = {frame.values.rescale.dtype(*frame.values.stored) for frame in frames}
        joint = np.result_type(*types)
        real = np.dtype(np.float64 if np.dtype(np.float64) in types else np.float32)
        self.dtype = real if joint.kind == "f" else joint

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices `start` to `stop`; raises `UserError` for a file that cannot be decoded."""
        frames = self._frames[start:stop]
        channels, _, rows, columns = self.shape
        slab = np.empty((channels, len(frames), rows, columns), self.dtype)
        for index, frame in enumerate(frames):
            slab[:, index] = frame.decode()
        return slab
