"""The predictor of segmentation: probabilities, a label map on the grid of the source, and volumes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import combinations
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from scipy.special import entr
from torch import Tensor, nn

from ganatomy.case import Array, Prediction, Role, Sample, Scores, slab
from ganatomy.data.batches import Range
from ganatomy.errors import UserError
from ganatomy.images.frames import Plane
from ganatomy.images.image import ComputedArray, Image, LazyArray
from ganatomy.images.labelmaps import palette
from ganatomy.inference.predictor import Options, VoxelPredictor, ability_of, encoded
from ganatomy.inference.tiling import Reader, Tiler
from ganatomy.metrics.metric import Mask
from ganatomy.roles.image import ImageRole
from ganatomy.roles.labels import LabelRole
from ganatomy.tasks.segmentation.measures import Measure
from ganatomy.tasks.segmentation.views import Fusion, fuse, turned, turned_back

T = TypeVar("T")

UNCERTAINTY = "uncertainty"
"""Name of the map of uncertainty."""
PROBABILITIES = "probabilities"
"""Name of the array of probabilities, with a channel for each region."""
VOLUMES, LABELS, MEASURES = "volumes", "labels", "measures"
"""Names of the tables of a prediction."""
EACH = 6
"""Decimals of the number of a case from which a measure of its subject is made."""
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
UNCERTAIN = {
    True: "entropy of the classes, as a share of that of equal probabilities",
    False: "the largest binary entropy of a region, in bits",
}
"""Definition of the uncertainty for exclusive classes and for regions that may overlap."""
NEIGHBOURS = ndimage.generate_binary_structure(3, 3)
"""Structuring element of connected components, with the 26 neighbours of a voxel."""


class ProbabilityOptions(Options):
    """Options of the probabilities: averages over several passes, and files of them."""

    fusion: Fusion = "vote"  # rule by which views of a volume are fused, of one run or of runs with a view each
    probabilities: bool = False  # write also the probabilities of each region
    uncertainty: bool = False  # write also the entropy of the probabilities, from 0 (certain) to 1
    mirrored: tuple[int, ...] = ()  # average over images mirrored along these axes: 0 slices, 1 rows, 2 columns
    passes: int = Field(1, ge=1, le=1000)  # average over passes with random dropout, for networks that have it


class SegmentationOptions(ProbabilityOptions):
    """Options of the label map: threshold, post-processing, and probabilities."""

    threshold: float = Field(0.5, gt=0, lt=1)  # probability from which a voxel is in a region; not used for classes
    largest: tuple[str, ...] | None = None  # regions of which only the largest component is kept; none: as in the paper
    fill: tuple[str, ...] | None = None  # regions whose holes are filled; none: as in the paper


class SegmentationPredictor(VoxelPredictor):
    """Segments the inputs slab by slab.

    Probabilities, not labels, are resampled to the grid of the source. There they are thresholded to regions, which are
    merged to the label map; later regions overwrite earlier ones.

    Raises:
        UserError: an option names an unknown region.
    """

    Options: ClassVar[type[Options]] = SegmentationOptions

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        names, usual = self.task.target.names, self.task.cleaning
        # Objects have options of their own in place of these.
        largest, fill = (getattr(self.options, option, ()) for option in ("largest", "fill"))
        self.largest = usual.largest if largest is None else largest
        self.fill = usual.fill if fill is None else fill
        self.organ = usual.organ if largest is None else ()
        for option in ("largest", "fill"):
            if strange := [name for name in getattr(self, option) if name not in names]:
                raise UserError(f"--{option} {strange[0]}: no such region; this system has {', '.join(names)}")
        first = 3 - self.method.dims
        if wrong := [axis for axis in self.options.mirrored if not first <= axis <= 2]:
            raise UserError(
                f"--mirrored {wrong[0]}: the network sees the axes {', '.join(map(str, range(first, 3)))} (0 slices, "
                "1 rows, 2 columns)"
            )
        if self.options.passes > 1 and not self._dropouts:
            raise UserError(
                f"--passes {self.options.passes}: this network has no dropout, so that all passes are alike"
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Roles of the required images."""
        return tuple(name for name in self.task.inputs if name not in self.optional)

    @property
    def optional(self) -> tuple[str, ...]:
        """Roles of the optional images."""
        return tuple(self.task.config.optional_inputs)

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Roles of the label map, and of the probabilities where the options ask for them."""
        labels: LabelRole = self.task.target
        wanted = [probability(name) for name in labels.names] if self.options.probabilities else []
        wanted += [UNCERTAINTY] if self.options.uncertainty else []
        return {labels.name: labels, **{name: ImageRole(name) for name in wanted}}

    def arrays(self, sample: Sample, seed: int = 0) -> Mapping[str, Array]:
        """Return the probabilities of the regions, (regions, slices, rows, columns) on the working grid."""
        return {PROBABILITIES: self._probabilities(sample, seed)}

    def counted(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return probabilities as they are averaged with other runs: votes of a run of a single view, see `fuse`."""
        if len(self._views) != 1 or self.options.fusion == "mean":
            return arrays
        found = arrays[PROBABILITIES]

        def votes(start: int, stop: int) -> NDArray[np.float32]:
            return self._inside(slab(found, start, stop)).astype(np.float32)

        thickness = found.thickness if isinstance(found, LazyArray) else 1
        shape: Any = found.shape
        return {**arrays, PROBABILITIES: ComputedArray(shape, np.float32, votes, thickness)}

    def finish(self, arrays: Mapping[str, Array], sample: Sample) -> Prediction:
        """Return label map and probabilities, computed when they are read; the label map is cached."""
        name, there = self.task.labels, [role for role in self.task.inputs if role in sample.arrays]
        probabilities = arrays[PROBABILITIES]
        working = self._label_map(probabilities)
        made: dict[str, Array] = {name: working, PROBABILITIES: probabilities}
        if there[0] not in sample.frames:
            return Prediction(made)
        frame, like = sample.frames[there[0]], sample.values[there[0]]
        placed = frame.back(probabilities)
        labels = working if placed is probabilities else self._label_map(placed)
        source = replace(like, unit=None).with_geometry(labels, frame.affine)
        outputs = {name: source}
        if self.options.probabilities:
            outputs |= {
                probability(region): source.with_array(_channel(placed, place))
                for place, region in enumerate(self.task.target.names)
            }
        if self.options.uncertainty:
            outputs[UNCERTAINTY] = source.with_array(_entropy(placed, self.task.exclusive))
        absent = [role for role in self.task.inputs if role not in sample.arrays]
        return Prediction(
            made,
            outputs,
            tables=LazyTables(self._tables(source, working, sample, placed)),
            facts=self._facts(absent),
            notes=tuple(f"without {role}: the network saw 0, the background, in its place" for role in absent),
        )

    def validate(self, pieces: Sequence[Range], slices: int) -> Scores:
        """Return means over cases of the task's scores, each over some slices together.

        Half of the slices are evenly chosen among those with a region, the others among all.

        Args:
            pieces: validation slices; cases without a label map are left out.
            slices: approximate number of slices to score altogether.
        """
        able = [piece for piece in pieces if self.takes(piece.sample) and self.task.labels in piece.sample.arrays]
        chosen = evenly_spaced(able, slices)
        found: dict[str, list[float]] = {}
        for piece in chosen:
            places = self._places(piece, max(1, slices // len(chosen)))
            made = self.predict(piece.sample).arrays[self.task.labels]
            output = {self.task.labels: np.concatenate([slab(made, at, at + 1)[0] for at in places])}
            parts = [self.task.annotation(piece.sample, at, at + 1) for at in places]
            annotation = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            for name, value in self.task.scores(output, annotation, piece.sample.spacing).items():
                found.setdefault(name, []).append(value)
        return {name: float(np.mean(values)) for name, values in found.items()}

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that are written as CSV files: volumes, the colours of labels, and measures if any."""
        return (VOLUMES, LABELS, MEASURES) if self.task.measures else (VOLUMES, LABELS)

    @property
    def over_subjects(self) -> bool:
        """Whether there are measures of a subject, such as the ejection fraction of a beating heart."""
        return any(measure.over for measure in self.task.measures)

    def of_subject(self, tables: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
        """Return the measures of a subject from the tables of its cases, such as the volumes of time frames."""
        rows = [row for one in tables for row in one.get(MEASURES, ()) if row["value"] is not None]
        found = []
        for measure in self.task.measures:
            values = [row["value"] for row in rows if row["measure"] == measure.each]
            if measure.over and math.isfinite(value := measure.over(values)):
                found.append({**_measured(measure, value), "cases": len(values)})
        return found

    def _tables(
        self, source: Image, working: Array, sample: Sample, probabilities: Array
    ) -> dict[str, Callable[[], Sequence[Mapping[str, Any]]]]:
        """Return functions that compute the tables of a label map.

        Args:
            source: label map on the grid of the source, on which volumes are measured.
            working: label map on the working grid, whose axes and spacing measures and judges count on.
            sample: sample with the spacing of the working grid.
            probabilities: probabilities of the regions on the grid of the source.
        """

        def measured() -> list[dict[str, Any]]:
            masks = dict(
                zip(self.task.judged.names, self.task.inside(slab(working, 0, sample.shape[0])[0]), strict=True)
            )
            values = [(measure, measure(masks, sample.spacing)) for measure in self.task.measures]
            return list({row["measure"]: row for row in (_measured_in(*one) for one in values)}.values())

        found: dict[str, Callable[[], Sequence[Mapping[str, Any]]]] = {
            VOLUMES: lambda: volumes(source, self.task.target, self.task.judged),
            LABELS: lambda: colours(self.task.target),
        }
        return found | {MEASURES: measured} if self.task.measures else found

    def _places(self, piece: Range, count: int) -> list[int]:
        """Choose about ``count`` slices of a piece, half of them among those with a region."""
        slices = range(piece.start, piece.stop)
        labels = {at: self.task.annotation(piece.sample, at, at + 1)[self.task.labels] for at in slices}
        inside = [at for at in slices if self.task.inside(labels[at]).any()]
        half = min(len(inside), -(-count // 2))
        return sorted({*evenly_spaced(inside, half), *evenly_spaced(slices, count - half)})

    @property
    def _dropouts(self) -> list[nn.Module]:
        return [module for module in self.method.modules() if isinstance(module, DROPOUTS) and module.p]

    @property
    def _views(self) -> Mapping[Plane, Callable[[Tensor], Tensor]]:
        """Plane of each view to the function of its slices; empty for methods without views."""
        views: Mapping[Plane, Callable[[Tensor], Tensor]] = getattr(self.method, "views", {})
        return views

    def _segment(self, segment: Callable[[Tensor], Tensor], seed: int) -> Callable[[Tensor], Tensor]:
        """Return a function of images that segments them, averaged as the options ask for."""
        options = self.options
        axes = [axis - 3 for axis in options.mirrored]
        turns = [turn for count in range(len(axes) + 1) for turn in combinations(axes, count)]

        def mirrored(image: Tensor) -> Tensor:
            return torch.stack([segment(image.flip(turn)).flip(turn) for turn in turns]).mean(0)

        def repeated(image: Tensor) -> Tensor:
            dropouts = self._dropouts
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                try:
                    for module in dropouts:
                        module.train()
                    return torch.stack([mirrored(image) for _ in range(options.passes)]).mean(0)
                finally:
                    for module in dropouts:
                        module.eval()

        return repeated if options.passes > 1 else mirrored if axes else segment

    def _probabilities(self, sample: Sample, seed: int) -> LazyArray:
        """Return probabilities, (regions, slices, rows, columns) on the working grid; the last slab is cached."""
        if self._views:
            return self._fused(sample, seed)
        segment = ability_of(self.method, "segment")
        tiler = Tiler(self._segment(segment, seed), self.method.dims, self.method.tiling, self.device)
        read, extents = self._reader(sample), sample.shape
        network = lru_cache(maxsize=1)(lambda start, stop: tiler(read, extents, start, stop))
        shape = (len(self.task.target.names), *extents)
        return ComputedArray(shape, np.float32, network, tiler.thickness(extents[0]))

    def _fused(self, sample: Sample, seed: int) -> LazyArray:
        """Return the fused probabilities of several views; the networks see the whole volume when it is first read."""
        extents, regions, views = sample.shape, len(self.task.target.names), self._views

        @lru_cache(maxsize=1)
        def whole() -> NDArray[np.float32]:
            volume, parts = self._reader(sample)(0, extents[0]), []
            for view, network in views.items():
                slices = turned(volume, view)
                _, depth, rows, columns = slices.shape
                tiler = Tiler(self._segment(network, seed), 2, self.method.tiling, self.device)
                read = partial(_slices, slices)
                found = [tiler(read, (depth, rows, columns), at, at + 1) for at in range(depth)]
                parts.append(turned_back(np.concatenate(found, axis=1), view))
            return fuse(parts, self._inside, self.options.fusion)

        return ComputedArray(
            (regions, *extents), np.float32, lambda start, stop: whole()[:, start:stop], thickness=extents[0]
        )

    def _reader(self, sample: Sample) -> Reader:
        """Return a reader of all inputs in the range of the networks, with zeros for missing ones."""
        return encoded(self.task.completed(sample), self.task.inputs)

    def _label_map(self, probabilities: Array) -> LazyArray:
        return LabelMap(probabilities, self._inside, self.task.target, self._cleaned if self._cleans else None)

    @property
    def _cleans(self) -> bool:
        """Whether regions are changed as a whole after the network."""
        return bool(self.largest or self.fill or self.organ)

    def _cleaned(self, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the regions of a whole volume after the steps that follow the network, (regions, ...)."""
        largest, fill, organ = (
            [self.task.target.names.index(name) for name in names] for names in (self.largest, self.fill, self.organ)
        )
        if organ:
            inside[organ] &= largest_component(np.asarray(inside[organ].any(0)))
        for place in largest:
            inside[place] = largest_component(inside[place])
        for place in fill:
            inside[place] = filled(inside[place])
        return inside

    def _inside(self, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Decide from probabilities which voxels are in which region, (regions, ...)."""
        if self.task.exclusive:
            places = np.arange(len(probabilities)).reshape(-1, *[1] * (probabilities.ndim - 1))
            return np.asarray(probabilities.argmax(axis=0) == places)
        return np.asarray(probabilities >= self.options.threshold)

    def _facts(self, absent: Sequence[str]) -> dict[str, Any]:
        role: LabelRole = self.task.target
        return {
            "regions": {
                name: {"labels": list(role.regions[name]), "written": role.written[name]} for name in role.names
            },
            "rule": "most probable class"
            if self.task.exclusive
            else f"probability at least {self.options.threshold:g}",
            "priority": f"where regions overlap the later is written: {', '.join(role.names)}",
            **({"largest component": list(self.largest)} if self.largest else {}),
            **({"largest component of all together": list(self.organ)} if self.organ else {}),
            **({"holes filled": list(self.fill)} if self.fill else {}),
            **self._averaged(absent),
        }

    def _averaged(self, absent: Sequence[str]) -> dict[str, Any]:
        """Return facts about the probabilities for the note."""
        return {
            **({"views": list(self._views), "fusion": self.options.fusion} if len(self._views) > 1 else {}),
            **({"averaged over mirrored axes": list(self.options.mirrored)} if self.options.mirrored else {}),
            **({"passes with dropout": self.options.passes} if self.options.passes > 1 else {}),
            **({"uncertainty": UNCERTAIN[self.task.exclusive]} if self.options.uncertainty else {}),
            **({"inputs absent": list(absent)} if absent else {}),
        }


class LabelMap(LazyArray):
    """A label map that is computed from probabilities when it is read and cached, so that networks run only once.

    Args:
        probabilities: probabilities, (regions, slices, rows, columns).
        inside: decides from probabilities which voxels are in which region.
        role: role of the label map, which determines the labels where regions overlap.
        whole: post-processing of the regions of a whole volume, which is then computed with the first slice.
    """

    def __init__(
        self,
        probabilities: Array,
        inside: Callable[[NDArray[np.float32]], NDArray[np.bool_]],
        role: LabelRole,
        whole: Callable[[NDArray[np.bool_]], NDArray[np.bool_]] | None = None,
    ):
        _, slices, rows, columns = probabilities.shape
        self.shape = (1, slices, rows, columns)
        self.dtype = np.dtype(np.uint8 if max(role.known) < 256 else np.uint16)
        self.thickness = probabilities.thickness if isinstance(probabilities, LazyArray) else 1
        self._probabilities, self._inside, self._role, self._whole = probabilities, inside, role, whole
        self._kept = np.zeros(self.shape, self.dtype)
        self._made = np.zeros(slices, np.bool_)

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices ``start`` to ``stop``, (1, slices, rows, columns)."""
        if not self._made[start:stop].all():
            # Networks that see whole volumes or slabs are not run again for each of their slices.
            step, slices = self.thickness if self._whole is None else self.shape[1], self.shape[1]
            first, last = start // step * step, min(-(-stop // step) * step, slices)
            inside = np.concatenate([self._inside(part) for part in self._parts(first, last)], axis=1)
            self._kept[:, first:last] = self._role.merged(inside if self._whole is None else self._whole(inside))
            self._made[first:last] = True
        return self._kept[:, start:stop]

    def _parts(self, first: int, last: int) -> Iterator[NDArray[np.float32]]:
        for start in range(first, last, self.thickness):
            yield slab(self._probabilities, start, min(start + self.thickness, last))


class LazyTables(Mapping[str, Sequence[Mapping[str, Any]]]):
    """Tables that are computed when they are read.

    Args:
        made: name of each table to the function that computes it.
    """

    def __init__(self, made: Mapping[str, Callable[[], Sequence[Mapping[str, Any]]]]):
        self._made = made
        self._found: dict[str, Sequence[Mapping[str, Any]]] = {}

    def __getitem__(self, name: str) -> Sequence[Mapping[str, Any]]:
        if name not in self._found:
            self._found[name] = self._made[name]()
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """Choose a number of evenly spaced items; all of them where there are fewer."""
    number = min(count, len(items))
    return [items[int((place + 0.5) * len(items) / number)] for place in range(number)]


def probability(region: str) -> str:
    """Return the name of the output with the probabilities of a region."""
    return f"probability_{region}"


def _slices(array: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
    return array[:, start:stop]


def _channel(array: Array, place: int) -> LazyArray:
    thickness = array.thickness if isinstance(array, LazyArray) else 1
    _, slices, rows, columns = array.shape
    shape = (1, slices, rows, columns)
    return ComputedArray(
        shape, np.float32, lambda start, stop: slab(array, start, stop)[place : place + 1], thickness
    )  # fmt: skip


def _entropy(array: Array, exclusive: bool) -> LazyArray:
    """Return the uncertainty of probabilities, (1, slices, rows, columns) in [0, 1], when it is read."""
    thickness = array.thickness if isinstance(array, LazyArray) else 1
    regions, slices, rows, columns = array.shape

    def made(start: int, stop: int) -> NDArray[np.float32]:
        p = slab(array, start, stop).astype(np.float64)
        if exclusive:
            return np.asarray(entr(p).sum(0, keepdims=True) / math.log(max(regions, 2)), np.float32).clip(0, 1)
        both = (entr(p) + entr(1 - p)) / math.log(2)
        return np.asarray(both.max(0, keepdims=True), np.float32).clip(0, 1)

    return ComputedArray((1, slices, rows, columns), np.float32, made, thickness)


def volumes(labels: Image, *roles: LabelRole) -> list[dict[str, Any]]:
    """Measure every region of a label map: number of voxels, and size in mm² for single slices, else in mm³ and ml.

    Args:
        labels: label map on the grid of the source.
        roles: roles whose regions are measured, the background excluded.
    """
    counts = np.zeros(np.iinfo(labels.dtype).max + 1, np.int64)
    for part in labels.slabs():
        counts += np.bincount(part.reshape(-1), minlength=len(counts))
    regions = {name: own for role in roles for name, own in role.regions.items() if 0 not in own}
    rows: list[dict[str, Any]] = []
    for name, own in regions.items():
        voxels = int(sum(counts[label] for label in set(own) if label < len(counts)))
        row: dict[str, Any] = {"region": name, "voxels": voxels}
        if labels.shape[0] == 1:
            row["mm2"] = round(voxels * math.prod(labels.spacing[1:]), 3)
        else:
            size = voxels * abs(float(np.linalg.det(labels.affine[:3, :3])))
            row |= {"mm3": round(size, 3), "ml": round(size / 1000, 6)}
        rows.append(row)
    return rows


def _measured(measure: Measure, value: float) -> dict[str, Any]:
    """Return a row of the table of measures; the value is None where it is not defined."""
    return {
        "measure": measure.name,
        "value": round(value, measure.digits) if math.isfinite(value) else None,
        "unit": measure.unit,
    }


def _measured_in(measure: Measure, value: float) -> dict[str, Any]:
    """Return a row of the table of measures of a case, with the number that a measure of its subject is made from."""
    if measure.over is None:
        return _measured(measure, value)
    return {
        "measure": measure.each,
        "value": round(value, EACH) if math.isfinite(value) else None,
        "unit": measure.each_unit,
    }


def colours(role: LabelRole) -> list[dict[str, Any]]:
    """Return the colour table of a label map: each label with its region and its colour, as PNG files show it."""
    shown, rows = palette(), []
    for name in role.names:
        label = role.written[name]
        colour = dict(zip(("red", "green", "blue"), shown[label % 256].tolist(), strict=True))
        rows.append({"label": label, "region": name, **colour})
    return rows


def largest_component(mask: Mask) -> Mask:
    """Return the largest connected component of a mask (slices, rows, columns), with 26 neighbours."""
    parts, number = ndimage.label(mask, NEIGHBOURS)
    if number < 2:
        return mask
    sizes = np.bincount(parts.reshape(-1))
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def filled(mask: Mask) -> Mask:
    """Fill the holes of a mask (slices, rows, columns) in 3D, or in the plane for a single slice."""
    if len(mask) == 1:
        return np.asarray(ndimage.binary_fill_holes(mask[0]))[None]
    return np.asarray(ndimage.binary_fill_holes(mask))
