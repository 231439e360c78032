"""Procedural patients and test objects with ground truth in physical units, on which every method can run.

Most phantoms have an `image` (an `ganatomy.images.image.Image`), `masks` and `regions` by name, each of shape
(slices, rows, columns); others have no image but `vessels`. Further attributes depend on the kind of phantom. A class
may have `LABELS`, between which seeds alternate, `SITES`, such as scanners, between which they alternate, too,
`SEEDS_PER_SUBJECT`, and a function `side` that returns the side of the split of a seed: "train", "val" or "test".

A phantom from outside of the package is a class like these, called with a seed. A task names it by the class itself, or
an installed package registers it as an entry point. It cannot be named by a file or module: names of phantoms are read
from run files, and run files never cause an import of code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ganatomy.catalogue import attribute, registered, source_of
from ganatomy.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganatomy.images.image import Image
    from ganatomy.phantoms.coronary import Vessel
    from ganatomy.roles.points import Points
    from ganatomy.roles.pose import Poses

PHANTOMS: dict[str, str] = {
    "thorax-ct": "ganatomy.phantoms.thorax:ThoraxCT",
    "calcium-inserts": "ganatomy.phantoms.calcium:CalciumInserts",
    "brain-mr": "ganatomy.phantoms.brain:BrainMR",
    "brain-tumour-mr": "ganatomy.phantoms.brain:BrainTumourMR",
    "splenomegaly-mr": "ganatomy.phantoms.torso:SplenomegalyMR",
    "brain-structures-mr": "ganatomy.phantoms.brain_structures:BrainStructuresMR",
    "brain-mra": "ganatomy.phantoms.angiography:BrainMRA",
    "two-scanners-mr": "ganatomy.phantoms.two_scanners:TwoScannersMR",
    "abdomen-mr": "ganatomy.phantoms.torso:AbdomenMR",
    "abdomen-ct": "ganatomy.phantoms.abdomen_ct:AbdomenCT",
    "beating-ventricle": "ganatomy.phantoms.echo:BeatingVentricle",
    "fetus-us": "ganatomy.phantoms.fetus:FetusSweep",
    "prostate-us": "ganatomy.phantoms.trus:ProstateTRUS",
    "spine-ct": "ganatomy.phantoms.spine:SpineCT",
    "chest-mr": "ganatomy.phantoms.torso:ChestMR",
    "chest-radiograph": "ganatomy.phantoms.radiograph:ChestRadiograph",
    "retinal-oct": "ganatomy.phantoms.oct:RetinalOCT",
    "prostate-lesion": "ganatomy.phantoms.prostate:ProstateLesion",
    "prostate-mr": "ganatomy.phantoms.prostate:ProstateMR",
    "liver-lesion": "ganatomy.phantoms.liver:LiverLesion",
    "lung-nodule": "ganatomy.phantoms.nodule:LungNodule",
    "skin-lesion": "ganatomy.phantoms.skin:SkinLesion",
    "skin-photograph": "ganatomy.phantoms.skin_photograph:SkinPhotograph",
    "fundus": "ganatomy.phantoms.fundus:Fundus",
    "diabetic-fundus": "ganatomy.phantoms.fundus:DiabeticFundus",
    "endomicroscopy": "ganatomy.phantoms.endomicroscopy:EndomicroscopyMosaic",
    "fluorescent-cells": "ganatomy.phantoms.cells:FluorescentCells",
    "stained-glands": "ganatomy.phantoms.histology:StainedGlands",
    "stained-nuclei": "ganatomy.phantoms.histology:StainedNuclei",
    "two-laboratory-nuclei": "ganatomy.phantoms.histology:TwoLaboratoryNuclei",
    "live-cells": "ganatomy.phantoms.live_cells:LiveCells",
    "two-laboratory-tumours": "ganatomy.phantoms.histology:TwoLaboratoryTumours",
    "unstained-tissue": "ganatomy.phantoms.unstained:UnstainedTissue",
    "spheroids": "ganatomy.phantoms.spheroid:BrightFieldSpheroids",
    "squares": "ganatomy.phantoms.squares:Squares",
    "short-axis-mr": "ganatomy.phantoms.short_axis:ShortAxisMR",
    "head-mr-ct": "ganatomy.phantoms.mr_ct:HeadMRCT",
    "chest-mr-ct": "ganatomy.phantoms.mr_ct:ChestMRCT",
    "chest-pet-ct": "ganatomy.phantoms.pet_ct:ChestPetCT",
    "liver-pet-ct": "ganatomy.phantoms.pet_ct:LiverPetCT",
    "myelin-mr-pet": "ganatomy.phantoms.myelin:MyelinMRPet",
    "neurons": "ganatomy.phantoms.neurons:Neurons",
    "coronary-centrelines": "ganatomy.phantoms.coronary:CoronaryCentrelines",
}
"""Name of each phantom to the module and class that define it."""
GROUP = "ganatomy.phantoms"
"""Group of the entry points by which installed packages register phantoms."""


class ImagePhantom(Protocol):
    """A procedural image with ground truth.

    Attributes:
        image: image of the patient, in most phantoms with the noise of its scan.
        masks: structures by name, true inside.
        regions: regions of uniform tissue by name, in which mean and SD are measured.
    """

    image: Image
    masks: dict[str, NDArray[np.bool_]]
    regions: dict[str, NDArray[np.bool_]]


class GeometryPhantom(Protocol):
    """Procedural vessels without an image.

    Attributes:
        vessel: vessel that the seed selects.
        vessels: all vessels of the patient.
    """

    vessel: Vessel
    vessels: tuple[Vessel, ...]


Phantom = ImagePhantom | GeometryPhantom
Name = str | type[Any]
"""Name of a phantom, or the class of one from outside of the package."""


def make(name: Name, seed: int, **size: Any) -> Phantom:
    """Return a phantom, which is determined by its name, seed and size.

    Raises:
        UserError: there is no phantom of this name, or it does not take these arguments.
    """
    kind = _kind(name)
    try:
        signature(kind).bind(seed, **size)
    except TypeError as error:
        raise UserError(f"phantom {called(name)}: cannot be drawn for this system: {error}") from None
    phantom: Phantom = kind(seed, **size)
    return phantom


def called(name: Name) -> str:
    """Return the name of a phantom for names of cases."""
    return name if isinstance(name, str) else name.__name__


def source(name: Name) -> str | None:
    """Return the digest of the source file of a phantom from outside of the package; None for one of the package.

    Raises:
        UserError: there is no phantom of this name.
    """
    return None if name in PHANTOMS else source_of(_kind(name))


@cache
def code() -> str:
    """Return the digest of the source that the phantoms of the package are drawn by, with its physics."""
    here = Path(__file__).parent
    files = sorted(path for folder in (here, here.with_name("physics")) for path in folder.glob("*.py"))
    return hashlib.sha256(b"\n\n".join(path.read_bytes() for path in files)).hexdigest()


def label(name: Name, seed: int) -> str | None:
    """Return the label of a patient without drawing it; None where the phantom has no classes.

    Raises:
        UserError: there is no phantom of this name.
    """
    labels: tuple[str, ...] = getattr(_kind(name), "LABELS", ())
    return labels[seed % len(labels)] if labels else None


def site(name: Name, seed: int) -> str | None:
    """Return the site of a patient, such as a scanner, without drawing it; None where the phantom has no sites.

    Raises:
        UserError: there is no phantom of this name.
    """
    sites: tuple[str, ...] = getattr(_kind(name), "SITES", ())
    return sites[seed % len(sites)] if sites else None


def subject(name: Name, seed: int) -> int | None:
    """Return the number of the patient that a seed belongs to; None where every seed is another patient.

    Raises:
        UserError: there is no phantom of this name.
    """
    seeds: int | None = getattr(_kind(name), "SEEDS_PER_SUBJECT", None)
    return None if seeds is None else seed // seeds


def side(name: Name, seed: int) -> Literal["train", "val", "test"]:
    """Return the side of the split that a patient is on, without drawing it; all are for training in most phantoms.

    Raises:
        UserError: there is no phantom of this name.
    """
    sides: Callable[[int], Literal["train", "val", "test"]] | None = getattr(_kind(name), "side", None)
    return "train" if sides is None else sides(seed)


def part(phantom: Any, name: str) -> Image | NDArray[np.float64] | Points | Poses | tuple[str, ...]:
    """Return an image, a centre-line, points or poses of a phantom.

    Args:
        phantom: phantom of any kind.
        name: ``image``, one of its ``images`` by name, ``healthy:NAME`` for one of them without the disease, a mask
            as ``mask:NAME`` (float32, 0 and 1), a label map as ``labels:NAME`` (uint8), an instance map as
            ``instances:NAME`` (uint16), named points as ``points:NAME``, the poses of all slices as ``poses:NAME``,
            or the class of every slice as ``classes:NAME``; for a phantom of vessels ``vessel`` for the one that the
            seed selects, or any by its number as ``vessel:0``.

    Returns:
        An image; masks and label maps have the affine of `image` and no unit. Vessels are arrays (n, 4) of x, y, z and
        radius in mm, RAS+; points are in mm, RAS+; poses map mm in a slice to mm; classes of slices are words.

    Raises:
        UserError: the phantom has no part of this name.
    """
    there = _parts(phantom)
    if name not in there:
        raise UserError(f"{type(phantom).__name__} has no part {name!r}: choose one of {', '.join(there)}")
    found = there[name]
    if isinstance(found, Mapping):
        points: Points = found  # type: ignore[assignment]
        return points
    if hasattr(found, "polyline"):
        polyline: NDArray[np.float64] = found.polyline
        return polyline
    if hasattr(found, "matrices"):
        poses: Poses = found
        return poses
    if isinstance(found, tuple):
        return found
    if not hasattr(found, "affine"):
        array = found.astype("float32") if found.dtype == bool else found
        found = type(phantom.image)(array[None], phantom.image.affine)
    image: Image = found
    return image


def _parts(phantom: Any) -> dict[str, Any]:
    """Return images, masks, label maps and vessels of a phantom by the names that `part` takes."""
    there: dict[str, Any] = {"image": phantom.image} if hasattr(phantom, "image") else {}
    maps = (
        ("masks", "mask:"),
        ("labels", "labels:"),
        ("instances", "instances:"),
        ("points", "points:"),
        ("poses", "poses:"),
        ("classes", "classes:"),
    )
    for group, prefix in (("images", ""), ("healthy", "healthy:"), *maps):
        for name, value in getattr(phantom, group, {}).items():
            there.setdefault(prefix + name, value)
    if hasattr(phantom, "vessels"):
        there["vessel"] = phantom.vessel
        there |= {f"vessel:{number}": vessel for number, vessel in enumerate(phantom.vessels)}
    return there


def _kind(name: Name) -> Any:
    if not isinstance(name, str):
        return name
    if name in PHANTOMS:
        return attribute(PHANTOMS[name])
    entries = registered(GROUP)
    if name not in entries:
        raise UserError(f"there is no phantom {name!r}: choose one of {', '.join([*PHANTOMS, *entries])}")
    return attribute(entries[name].value)
