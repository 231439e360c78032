"""Reading and writing of images by file name: discovery under a folder, and the choice of reader and writer."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ganatomy.errors import Shortage, UserError, shortage
from ganatomy.images import kspace, labelmaps, nifti, npy, raster
from ganatomy.images.dicom import Frame, first_bytes, group, is_dicom, mismatch, open_series, read_frames, series_of
from ganatomy.images.dicom_out import Derivation, write_dicom
from ganatomy.images.image import NO_MEANING, ComputedArray, Image, Kind, LazyArray, RasterMeaning
from ganatomy.images.parsing import exists, fault
from ganatomy.images.paths import distinct_names

_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
_OTHER_SUFFIXES = frozenset(
    (
        *(".txt", ".csv", ".tsv", ".json", ".xml", ".html", ".htm", ".md", ".yaml", ".yml", ".log", ".ini", ".db"),
        *(".pdf", ".doc", ".docx", ".xls", ".xlsx", ".md5", ".sha256", ".zip", ".py", ".sh"),
    )
)
_READABLE = "DICOM, NIfTI (.nii, .nii.gz), PNG, JPEG, TIFF, BMP, GIF, .npy or raw MR data (.h5, .mrd)"


@dataclass(frozen=True)
class Source:
    """An image that can be opened.

    Attributes:
        name: Name that is unique among the sources found together, and safe as a file name.
        subject: PatientID, else the first folder below the searched one, else the name of the file.
        kind: Format of the file.
        paths: Its files, in slice order.
        modality: DICOM's modality code, None for other formats.
        problem: Reason why it cannot be opened, as far as the headers show; None when there is none.
        labels: Whether its values are labels and no intensities, see `labelled`.
        overlapping: Whether segments of a DICOM segmentation may overlap; the later one then wins.
        frame: Number of the time frame that is opened, in a file whose channels are time frames; None means all.
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

    def labelled(self, overlapping: bool = False) -> Source:
        """Return the source as one that opens as a label map.

        Palette indices stay as they are, slope and intercept are not used, and DICOM segmentations become label maps in
        which the label of a segment is its number.

        Args:
            overlapping: whether segments may overlap; the later one then wins.
        """
        return replace(self, labels=True, overlapping=overlapping)

    def open(self) -> Image:
        """Return the image, lazily where the format allows; raises `UserError` when it cannot be read."""
        image = self._read()
        return image if self.frame is None else _time_frame(image, self.frame)

    def _read(self) -> Image:
        if self.problem:
            raise UserError(self.problem)
        if self.labels and self.kind == "dicom" and self.modality == "SEG":
            return labelmaps.read_segmentation(self.paths[0], self.overlapping)
        if self.kind == "dicom":
            return open_series(self.frames, self.uneven)
        if self.kind == "nifti":
            return nifti.read_nifti(self.paths[0])
        if self.kind == "npy":
            return npy.read_npy(
                self.paths[0], RasterMeaning(pixel_mm=self.meaning.pixel_mm) if self.labels else self.meaning
            )
        if self.kind == "kspace":
            return kspace.open_kspace(self.paths[0])
        return raster.read_raster(self.paths[0], self.meaning, self.labels)


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
        meaning: Physical values of the numbers in raster files.

    Raises:
        UserError: There is no image or there are several, or the image cannot be read.
    """
    sources = find(path, uneven=uneven, meaning=meaning)
    if len(sources) > 1:
        names = ", ".join(source.name for source in sources[:6]) + (", ..." if len(sources) > 6 else "")
        raise UserError(
            f"{path} holds {len(sources)} images ({names}): give the file or folder of one of them, or move "
            "its series to a folder of its own"
        )
    return sources[0].open()


def find(path: Path | str, *, uneven: bool = False, meaning: RasterMeaning | None = None) -> list[Source]:
    """Return all images under a folder (recursively) or in one file, in order of path.

    Only headers are read. DICOM files of one folder are sorted into series; other files that are no images are skipped.
    A damaged or empty image, a link to nowhere and a folder that cannot be listed are listed with their `problem`. A
    damaged, empty or foreign slice is a problem of its series, too, so that none is silently shortened.

    Raises:
        UserError: `path` does not exist or holds no image.
    """
    root = Path(path)
    if not exists(root):
        raise UserError(f"{root} does not exist: check the spelling and the folder you are in")
    sources = list(_sources(root))
    if not sources:
        raise UserError(f"{root} holds no image: it takes {_READABLE}, or a folder of these")
    origins = [f"{one.frames[0].series if one.frames else ''}|{one.paths[0].relative_to(root)}" for one in sources]
    names = distinct_names([source.name for source in sources], origins)
    return [
        replace(source, name=name, uneven=uneven, meaning=meaning or NO_MEANING)
        for source, name in zip(sources, names, strict=True)
    ]


def write(
    path: Path | str,
    image: Image,
    *,
    derivation: Derivation | None = None,
    meaning: RasterMeaning | None = None,
) -> None:
    """Write an image by suffix: .nii, .nii.gz, .png, .tif, .tiff, .npy; without suffix, a DICOM folder.

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
    elif kind == "npy":
        npy.write_npy(path, image)
    elif path.suffix.lower() in raster.TIFF_SUFFIXES:
        raster.write_tiff(path, image, meaning)
    elif path.suffix.lower() == ".png":
        raster.write_png(path, image, meaning)
    elif not path.suffix or path.is_dir():
        write_dicom(path, image, derivation)
    else:
        raise UserError(f"{path}: cannot write {path.suffix}: choose .nii.gz, .tif, .png, .npy or a DICOM folder")


def _kind(path: Path) -> Kind | None:
    name = path.name.lower()
    kinds: dict[Kind, Sequence[str]] = {
        "nifti": nifti.SUFFIXES,
        "raster": raster.SUFFIXES,
        "npy": npy.SUFFIXES,
        "kspace": kspace.SUFFIXES,
        "dicom": _DICOM_SUFFIXES,
    }
    return next((kind for kind, suffixes in kinds.items() if name.endswith(tuple(suffixes))), None)


def _sources(root: Path) -> Iterator[Source]:
    """Yield sources whose names may still collide; DICOM comes folder by folder, after the files beside it."""
    paths, unlisted = _files(root)
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        folders[path.parent].append(path)
    for folder, inside in folders.items():
        slices: list[Path] = []
        for path in inside:
            kind = _kind(path)
            if kind in (None, "dicom"):
                slices.append(path)
                continue
            problem = fault(path)
            if kind == "npy" and problem is None and kspace.is_complex(path):
                kind = "kspace"
            yield Source(_name(root, path), _subject(root, path), kind, (path,), problem=problem)
        yield from _series(root, folder, slices)
    for folder, problem in unlisted.items():
        yield Source(_name(root, folder), _subject(root, folder), "dicom", (folder,), problem=problem)


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


def _series(root: Path, folder: Path, paths: Sequence[Path]) -> Iterator[Source]:
    """Yield the DICOM series among the files of one folder.

    A damaged file is a problem of the series that it states, and where it states none, of every series of the folder.
    """
    frames: list[Frame] = []
    damaged: dict[Path, str] = {}
    unread: dict[Path, str] = {}
    foreign: dict[Path, str] = {}
    for path in paths:
        named = _kind(path) == "dicom"
        reasons = damaged if named else unread
        try:
            if is_dicom(path):
                reasons = damaged
                frames += read_frames(path)
            else:
                told = f"{path} is not DICOM, unlike its neighbours or its name: copy or export it again"
                (damaged if named else foreign)[path] = told
        except Shortage:
            raise
        except UserError as error:
            reasons[path] = str(error)
    # A file whose name tells nothing is only known to be a damaged slice by the series beside it.
    suffixes = {_suffix(frame.path) for frame in frames}
    damaged |= {path: reason for path, reason in unread.items() if frames and not _is_other(path)}
    damaged |= {
        path: reason
        for path, reason in foreign.items()
        if _suffix(path) in suffixes and not _is_other(path) and b"\0" in first_bytes(path)
    }
    groups = group(frames)
    place = paths[0] if not root.is_dir() and paths else folder
    stated = {path: series_of(path) for path in damaged}
    known = {members[0].series for members in groups}
    for members in groups:
        first = members[0]
        title = first.description or f"series {first.number[0]}"
        own = (reason for path, reason in damaged.items() if stated[path] in (None, first.series))
        yield Source(
            name=_name(root, place) + (f"_{title}" if len(groups) > 1 else ""),
            subject=first.patient or _subject(root, place),
            kind="dicom",
            paths=tuple(dict.fromkeys(frame.path for frame in members)),
            modality=first.modality,
            problem=next(own, None) or mismatch(members),
            frames=tuple(members),
        )
    for path, reason in damaged.items():
        if not groups or stated[path] not in (None, *known):
            yield Source(_name(root, path), _subject(root, path), "dicom", (path,), problem=reason)


def _is_other(path: Path) -> bool:
    """Return whether a name says that a file is no image."""
    return path.suffix.lower() in _OTHER_SUFFIXES or path.name.upper() == "DICOMDIR"


def _suffix(path: Path) -> str:
    """Return the suffix of a name, and none where it is a number, as in IM.0001."""
    suffix = path.suffix.lower().lstrip(".")
    return "" if suffix.isdigit() else suffix


def _name(root: Path, path: Path) -> str:
    """Return the path from the root to a file or folder, without suffix, as a name."""
    return place_of(root, path).replace("/", "_")


def place_of(root: Path, path: Path) -> str:
    """Return the path from the root to a file or folder, without the suffix of an image."""
    parts = path.relative_to(root).parts or (path.resolve().name,)
    known = (*nifti.SUFFIXES, *raster.SUFFIXES, *npy.SUFFIXES, *kspace.SUFFIXES, *_DICOM_SUFFIXES)
    ending = next((end for end in known if parts[-1].lower().endswith(end)), "")
    return "/".join(parts)[: -len(ending) or None]


def _subject(root: Path, path: Path) -> str:
    parts = path.relative_to(root).parts
    name = parts[0] if len(parts) > 1 or (parts and path.is_dir()) else _name(root, path)
    # What is no UTF-8 in a name can be written nowhere; different names stay different.
    return name.encode(errors="backslashreplace").decode()
