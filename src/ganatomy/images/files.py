"""Reading and writing of images by file name: discovery under a folder, and the choice of reader and writer."""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import Notice, UserError, shortage
from ganatomy.images import archives, dicom, itk, kspace, labelmaps, mgh, nifti, npy, raster, slides, uptake
from ganatomy.images.archives import shown
from ganatomy.images.dicom_folders import read_folders
from ganatomy.images.dicom_frames import Frame
from ganatomy.images.dicom_out import Derivation, is_own_dicom, write_dicom
from ganatomy.images.dicom_series import Series, open_series
from ganatomy.images.image import NO_MEANING, ComputedArray, Image, Kind, LazyArray, RasterMeaning
from ganatomy.images.parsing import exists, fault
from ganatomy.images.paths import distinct_names

_UNREAD = frozenset(
    (
        *(".mrxs", ".vms", ".vmu", ".czi", ".lif", ".nd2", ".oib", ".oif", ".vsi"),
        *(".mnc", ".hdr", ".img", ".par", ".rec", ".v", ".gipl"),
        *(".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".dng", ".psd", ".svg", ".npz", ".mat", ".zarr"),
        *(".avi", ".mp4", ".mov", ".mkv", ".wmv", ".zip", ".gz", ".bz2", ".xz", ".7z", ".rar", ".tar", ".tgz"),
    )
)
"""Endings of names of images, recordings and archives that some version may not read, and that are named then."""
_READABLE = (
    "DICOM, NIfTI (.nii, .nii.gz), MetaImage (.mha, .mhd), NRRD (.nrrd, .nhdr), .mgz, PNG, JPEG, TIFF, BMP, GIF, WebP, "
    "whole slides (.svs, .ndpi), .npy, raw MR data (.h5, .mrd) or a .zip"
)


@dataclass(frozen=True)
class Source:
    """An image that can be opened.

    Attributes:
        name: Name that is unique among the sources found together, and safe as a file name.
        subject: PatientID, else the first folder below the searched one, else the name of the file.
        kind: Format of the file.
        paths: Its files, in slice order; those of archives in the folder that they are unpacked into.
        modality: DICOM's modality code, None for other formats.
        problem: Reason why it cannot be opened, as far as the headers show; None when there is none.
        labels: Whether its values are labels and no intensities, see `labelled`.
        overlapping: Whether segments of a DICOM segmentation may overlap; the later one then wins.
        frame: Number of the time frame that is opened, in a file whose channels are time frames; None means all.
        volume: Words that tell a volume of a DICOM series from the others of it, such as "echo 2"; None where there is
            one.
        aside: Why a DICOM file is no image of a scan, such as "localiser"; None where it is one.
        uptake: Whether PET in Bq/mL is opened as standardised uptake (SUV), see `in_uptake`.
    """

    name: str
    subject: str
    kind: Kind
    paths: tuple[Path, ...]
    modality: str | None = None
    problem: str | None = None
    frames: tuple[Frame, ...] = ()
    uneven: bool = False
    meaning: RasterMeaning = NO_MEANING
    labels: bool = False
    overlapping: bool = False
    frame: int | None = None
    volume: str | None = None
    aside: str | None = None
    uptake: bool = False

    @property
    def folder(self) -> Path:
        """Folder of its files, or the first above all of them; an archive counts as one."""
        return Path(os.path.commonpath([path.parent for path in self.places]))

    @property
    def places(self) -> tuple[Path, ...]:
        """Its files as a user knows them: those of an archive as places in it, such as ``scan.zip/ct/001.dcm``."""
        return tuple(map(shown, self.paths))

    def labelled(self, overlapping: bool = False) -> Source:
        """Return the source as one that opens as a label map.

        Palette indices stay as they are, slope and intercept are not used, and DICOM segmentations become label maps in
        which the label of a segment is its number.

        Args:
            overlapping: whether segments may overlap; the later one then wins.
        """
        return replace(self, labels=True, overlapping=overlapping)

    def in_uptake(self) -> Source:
        """Return the source as one that opens PET in Bq/mL as SUV by body weight, from what its headers state."""
        return replace(self, uptake=True)

    def open(self) -> Image:
        """Return the image, lazily where the format allows; raises `UserError` when it cannot be read."""
        with archives.told():
            image = self._read()
        if self.places != self.paths and isinstance(image.array, LazyArray):
            image = _naming_archives(image, image.array)
        if image.unit is None and not (self.labels or self.meaning.scales):
            image = replace(image, unit=self.meaning.unit)
        if self.meaning.nan is not None:
            image = _without_nan(image, 0.0 if self.labels else self.meaning.nan)
        image = image if self.frame is None else _time_frame(image, self.frame)
        return uptake.in_uptake(image) if self.uptake else image

    def _read(self) -> Image:
        if self.problem:
            raise UserError(self.problem)
        if self.labels and self.kind == "dicom" and self.modality == "SEG":
            return labelmaps.read_segmentation(self.paths[0], self.overlapping)
        if self.kind == "dicom":
            return open_series(Series(self.frames, self.volume), self.uneven)
        if self.kind == "nifti":
            return nifti.read_nifti(self.paths[0])
        if self.kind == "npy":
            return npy.read_npy(self.paths[0], self.meaning.geometry if self.labels else self.meaning)
        if self.kind == "itk":
            return itk.read_itk(self.paths[0])
        if self.kind == "mgh":
            return mgh.read_mgh(self.paths[0])
        if self.kind == "kspace":
            return kspace.open_kspace(self.paths[0])
        if slides.is_slide(self.paths[0], self.meaning.level is not None or self.meaning.mpp is not None):
            return slides.read_slide(self.paths[0], self.meaning, self.labels)
        return raster.read_raster(self.paths[0], self.meaning, self.labels)


def _naming_archives(image: Image, array: LazyArray) -> Image:
    """Return an image of an archive whose errors name the archive, also those of slices that are read later."""

    def slab(start: int, stop: int) -> NDArray[Any]:
        with archives.told():
            return array.slab(start, stop)

    return image.with_array(ComputedArray(array.shape, array.dtype, slab, array.thickness))


def _without_nan(image: Image, value: float) -> Image:
    """Return an image in which a value takes the place of NaN, as outside of a body that was cut out."""
    if image.dtype.kind != "f":
        return image

    def slab(start: int, stop: int) -> NDArray[Any]:
        values = image.slab(start, stop)
        return np.where(np.isnan(values), values.dtype.type(value), values)

    thickness = image.array.thickness if isinstance(image.array, LazyArray) else 1
    return image.with_array(ComputedArray(image.array.shape, image.dtype, slab, thickness))


def _time_frame(image: Image, number: int) -> Image:
    """Return one channel of an image whose channels are time frames."""
    if number >= image.channels:
        raise UserError(f"{image.header.label} holds {image.channels} time frames; there is no number {number}")
    array = image.array
    one = (
        ComputedArray((1, *image.shape), image.dtype, lambda a, b: array.slab(a, b)[number : number + 1])
        if isinstance(array, LazyArray)
        else array[number : number + 1]
    )
    return image.with_array(one)


def read(path: Path | str, *, uneven: bool = False, meaning: RasterMeaning | None = None) -> Image:
    """Open one image: a file, or a folder that holds a single image such as one DICOM series.

    Args:
        path: File or folder.
        uneven: Accept a DICOM series whose slices are not evenly spaced.
        meaning: Statements on files that say less, such as physical values of the numbers in raster files.

    Raises:
        UserError: There is no image or there are several, or the image cannot be read.
    """
    sources = find(path, uneven=uneven, meaning=meaning)
    if len(sources) > 1:
        names = _first([source.name for source in sources])
        raise UserError(
            f"{path} holds {len(sources)} images ({names}): give the file or folder of one of them, or move "
            "its series to a folder of its own"
        )
    return sources[0].open()


def _first(names: Sequence[str], most: int = 6) -> str:
    """Return the first names as text."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


@dataclass(frozen=True)
class Findings:
    """Images under a folder or in a file, and files that are left out.

    Attributes:
        sources: Images, in order of path.
        aside: DICOM files that are no images of a scan: localisers, dose pages, screen captures.
        copies: DICOM files that equal another one.
        without_image: DICOM files that hold no image, such as reports and plans.
        unread: Files of a kind that is not read.
        empty: Archives that hold no image.
    """

    sources: list[Source]
    aside: list[Source]
    copies: list[Path]
    without_image: list[Path]
    unread: list[Path]
    empty: list[Path]

    @property
    def left_out(self) -> list[str]:
        """Reasons why files are left out, each with the number and the first names."""
        reasons: dict[str, list[str]] = defaultdict(list)
        for source in self.aside:
            reasons[f"{source.aside}, no image of a scan"].append(source.name)
        kinds = {
            "copies of other DICOM files": self.copies,
            "DICOM files without an image": self.without_image,
            "files of a kind that is not read": self.unread,
            "archives without an image": self.empty,
        }
        reasons |= {what: [path.name for path in paths] for what, paths in kinds.items() if paths}
        return [f"{what} ({len(names)}): {_first(names)}" for what, names in reasons.items()]


def find(path: Path | str, *, uneven: bool = False, meaning: RasterMeaning | None = None) -> list[Source]:
    """Return all images under a folder (recursively) or in one file, in order of path.

    A zip archive counts as a folder, and is unpacked into a temporary one.

    Only headers are read. DICOM files are sorted into series, wherever they lie, and series into volumes; other files
    that are no images are skipped. A damaged or empty image, a link to nowhere and a folder that cannot be listed are
    listed with their `problem`. A damaged, empty or foreign slice is a problem of its series, too, so that none is
    silently shortened. A `Notice` names what is left out, see `survey`.

    Raises:
        UserError: `path` does not exist or holds no image.
    """
    found = survey(path, uneven=uneven, meaning=meaning)
    told = "; ".join(found.left_out)
    if not found.sources:
        raise UserError(
            f"{path} holds no image: it takes {_READABLE}, or a folder of these"
            + (f"; left out: {told}" if told else "")
        )
    if told:
        warnings.warn(f"{path}: left out: {told}", Notice, stacklevel=1)  # one place, so that it is told once
    return found.sources


def survey(path: Path | str, *, uneven: bool = False, meaning: RasterMeaning | None = None) -> Findings:
    """Return all images under a folder or in one file, and what is left out.

    Localisers, dose pages and screen captures are left out of folders, since no system should be trained on or applied
    to them by mistake; one that is named as the file itself is an image like any other.

    Raises:
        UserError: `path` does not exist.
    """
    root = Path(path)
    if not exists(root):
        raise UserError(f"{root} does not exist: check the spelling and the folder you are in")
    whole = _sources(root)
    listed = [*whole.sources, *whole.aside]
    origins = [
        f"{one.frames[0].series if one.frames else ''}|{shown(one.paths[0]).relative_to(root)}" + (one.volume or "")
        for one in listed
    ]
    names = distinct_names([source.name for source in listed], origins)
    named = [
        replace(source, name=name, uneven=uneven, meaning=meaning or NO_MEANING)
        for source, name in zip(listed, names, strict=True)
    ]
    count = len(whole.sources)
    return replace(whole, sources=named[:count], aside=named[count:])


def write(
    path: Path | str,
    image: Image,
    *,
    derivation: Derivation | None = None,
    meaning: RasterMeaning | None = None,
) -> None:
    """Write an image by suffix: .nii, .nii.gz, .mha, .nrrd, .mgz, .png, .tif, .tiff, .npy; without suffix, as DICOM.

    Values are neither clipped nor wrapped; they are rounded only where `meaning` (PNG, TIFF) or DICOM's 16 bits need a
    step size. The file or folder is written completely or not at all.

    Args:
        path: Output file or folder.
        image: Image, which is written slab by slab, so that it may be lazy and larger than memory.
        derivation: Model that made the image, for DICOM.
        meaning: Physical values of the stored numbers, for PNG and TIFF; that of the source when not given.

    Raises:
        UserError: The format cannot hold the image, or the path cannot be written.
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "nifti":
        nifti.write_nifti(path, image)
    elif kind == "itk":
        itk.write_itk(path, image)
    elif kind == "mgh":
        mgh.write_mgh(path, image)
    elif kind == "npy":
        npy.write_npy(path, image)
    elif path.suffix.lower() in raster.TIFF_SUFFIXES:
        raster.write_tiff(path, image, meaning)
    elif path.suffix.lower() == ".png":
        raster.write_png(path, image, meaning)
    elif not path.suffix or path.is_dir():
        write_dicom(path, image, derivation)
    else:
        raise UserError(
            f"{path}: cannot write {path.suffix}: choose .nii.gz, .mha, .nrrd, .tif, .png, .npy or a DICOM folder"
        )


def _kind(path: Path) -> Kind | None:
    name = path.name.lower()
    kinds: dict[Kind, Sequence[str]] = {
        "nifti": nifti.SUFFIXES,
        "itk": itk.SUFFIXES,
        "mgh": mgh.SUFFIXES,
        "raster": (*raster.SUFFIXES, *slides.SUFFIXES),
        "npy": npy.SUFFIXES,
        "kspace": kspace.SUFFIXES,
        "dicom": dicom.SUFFIXES,
    }
    return next((kind for kind, suffixes in kinds.items() if name.endswith(tuple(suffixes))), None)


def _sources(root: Path) -> Findings:
    """Return what lies under a folder, with names that may still collide.

    DICOM series come after the files beside their first slice.
    """
    paths, unlisted = _files(root)
    zipped = [path for path in paths if archives.is_archive(path)]
    unpacked = archives.unpack(zipped)
    paths = sorted([*(path for path in paths if not archives.is_archive(path)), *unpacked.files], key=shown)
    others: dict[Path, list[Source]] = defaultdict(list)
    slices: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        kind = _kind(path)
        if kind in (None, "dicom"):
            slices[path.parent].append(path)
            continue
        problem = fault(path)
        if kind == "npy" and problem is None and kspace.is_complex(path):
            kind = "kspace"
        files: tuple[Path, ...] = (path,)
        if kind == "itk" and problem is None:
            try:
                files = itk.files_of(path)
            except UserError as error:
                problem = str(error)
        others[path.parent].append(Source(_name(root, path), _subject(root, path), kind, files, problem=problem))
    contents = read_folders(slices)
    contents.damaged |= unpacked.damaged
    series = _series(root, *contents.series())
    folders = dict.fromkeys(path.parent for path in (*paths, *unpacked.damaged))
    sources = [one for folder in folders for one in (*others[folder], *series.get(folder, ()))]
    sources += [
        Source(_name(root, folder), _subject(root, folder), "dicom", (folder,), problem=problem)
        for folder, problem in (*unlisted.items(), *unpacked.refused.items())
    ]
    sources = [replace(one, problem=archives.in_words(one.problem)) if one.problem else one for one in sources]
    inside = _holds_files(root)
    known = [*(path for one in sources for path in one.paths), *contents.copies, *contents.without_image]
    used = {place for path in known for place in (shown(path), *shown(path).parents)}
    return Findings(
        [one for one in sources if not (one.aside and inside)],
        [one for one in sources if one.aside and inside],
        contents.copies,
        contents.without_image,
        [path for path in contents.foreign if path.suffix.lower() in _UNREAD],
        [path for path in zipped if path.name.lower().endswith(archives.ZIP) and path not in used],
    )


def _holds_files(path: Path) -> bool:
    """Return whether a path is a folder, or an archive that counts as one."""
    return path.is_dir() or path.name.lower().endswith(archives.ZIP)


def _series(root: Path, series: Sequence[Series], alone: Mapping[Path, str]) -> dict[Path, list[Source]]:
    """Return the sources of DICOM series and of damaged files that belong to none, by folder of the first slice."""
    found: dict[Path, list[Source]] = defaultdict(list)
    beside = Counter(one.folder for one in series)
    for one in series:
        first = one.frames[0]
        place = one.folder if _holds_files(root) else root
        own = first.aside is not None and is_own_dicom(first.path)
        source = Source(
            name=_name(root, place) + (f"_{one.title}" if beside[one.folder] > 1 else ""),
            subject=first.patient or _subject(root, place),
            kind="dicom",
            paths=one.paths,
            modality=first.modality,
            problem=one.problem,
            frames=one.frames,
            volume=one.volume,
            aside=None if own else first.aside,
        )
        found[first.path.parent].append(source)
    for path, reason in alone.items():
        found[path.parent].append(Source(_name(root, path), _subject(root, path), "dicom", (path,), problem=reason))
    return found


def _files(root: Path) -> tuple[list[Path], dict[Path, str]]:
    """Return all files under a folder in order of path, and the folders that cannot be listed, with the reason.

    Hidden files and folders are left out. Links to folders are followed unless these are searched anyway.

    Raises:
        UserError: the folder itself cannot be listed.
    """
    if not root.is_dir():
        return [root], {}
    paths: list[Path] = []
    unlisted: dict[Path, str] = {}

    def note(error: OSError) -> None:
        where = Path(error.filename or root)
        if short := shortage(error, where):
            raise short from error
        unlisted[where] = f"{where} cannot be listed: {error.strerror}; correct its permissions, or move it elsewhere"

    top = root.resolve()
    visited = {top}
    for name, folders, files in os.walk(root, onerror=note, followlinks=True):
        folder, wanted = Path(name), []
        if folder != root and _kind(folder) and not folders and not files:
            paths.append(folder)  # instead of an image, which `fault` then tells
        for inner in folders:
            place = (folder / inner).resolve()
            linked = (folder / inner).is_symlink() and place.is_relative_to(top)
            if not (inner.startswith(".") or linked or place in visited):
                visited.add(place)
                wanted.append(inner)
        folders[:] = wanted
        paths += [folder / inner for inner in files if not inner.startswith(".")]
    if root in unlisted:
        raise UserError(unlisted[root])
    return sorted(paths), dict(sorted(unlisted.items()))


def _name(root: Path, path: Path) -> str:
    """Return the path from the root to a file or folder, without suffix, as a name."""
    return place_of(root, path).replace("/", "_")


def place_of(root: Path, path: Path) -> str:
    """Return the path from the root to a file or folder, without the suffix of an image."""
    parts = shown(path).relative_to(root).parts or (path.resolve().name,)
    images = (nifti, itk, mgh, raster, slides, npy, kspace, archives, dicom)
    known = tuple(suffix for format in images for suffix in format.SUFFIXES)
    ending = next((end for end in known if parts[-1].lower().endswith(end)), "")
    folders = [_without_zip(part) for part in parts[:-1]]
    return "/".join([*folders, parts[-1][: -len(ending) or None]])


def _without_zip(name: str) -> str:
    return name[: -len(archives.ZIP)] if name.lower().endswith(archives.ZIP) else name


def _subject(root: Path, path: Path) -> str:
    parts = shown(path).relative_to(root).parts
    name = _without_zip(parts[0]) if len(parts) > 1 or (parts and path.is_dir()) else _name(root, path)
    # What is no UTF-8 in a name can be written nowhere; different names stay different.
    return name.encode(errors="backslashreplace").decode()
