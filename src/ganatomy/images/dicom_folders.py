"""DICOM files among the files of folders: the series that they make, and what is wrong with the others."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ganatomy.errors import Shortage, UserError
from ganatomy.images.dicom import SUFFIXES, first_bytes, is_dicom, series_of
from ganatomy.images.dicom_frames import Frame, read_frames
from ganatomy.images.dicom_series import Series, group

_OTHER_SUFFIXES = frozenset(
    (
        *(".txt", ".csv", ".tsv", ".json", ".xml", ".html", ".htm", ".md", ".yaml", ".yml", ".log", ".ini", ".db"),
        *(".pdf", ".doc", ".docx", ".xls", ".xlsx", ".md5", ".sha256", ".zip", ".py", ".sh"),
    )
)


@dataclass
class Contents:
    """Content of the DICOM files of one or several folders.

    Attributes:
        frames: Frames of the images.
        damaged: Files that should be DICOM images and are not, with the reason.
        foreign: Files that are no DICOM.
        without_image: DICOM files that hold no image, such as reports.
        copies: DICOM files that equal another one, which is used instead.
    """

    frames: list[Frame] = field(default_factory=list)
    damaged: dict[Path, str] = field(default_factory=dict)
    foreign: list[Path] = field(default_factory=list)
    without_image: list[Path] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)

    def series(self) -> tuple[list[Series], dict[Path, str]]:
        """Return the series of the frames, and the damaged files that belong to none of them, with the reason.

        A damaged file is a problem of the series that it states, and where it states none, of every series of its
        folder.
        """
        places: dict[str, set[Path]] = defaultdict(set)
        grouped = group(self.frames)
        for one in grouped:
            places[one.frames[0].series] |= _folders(one)
        everywhere = set().union(*places.values())
        stated = {path: series_of(path) for path in self.damaged}

        def concerns(path: Path, one: Series) -> bool:
            uid, folder = stated[path], path.parent
            if uid is None or folder in places.get(uid, ()):
                return uid in (None, one.frames[0].series) and folder in _folders(one)
            return uid == one.frames[0].series

        found = []
        for one in grouped:
            reason = next((reason for path, reason in self.damaged.items() if concerns(path, one)), None)
            found.append(replace(one, problem=reason or one.problem))
        alone = {
            path: reason
            for path, reason in self.damaged.items()
            if (path.parent not in everywhere if stated[path] is None else stated[path] not in places)
        }
        return found, alone


def read_folders(folders: Mapping[Path, Sequence[Path]]) -> Contents:
    """Return what the DICOM files among the files of folders hold; only headers are read, except those of copies."""
    whole = Contents()
    for paths in folders.values():
        one = _read_folder(paths)
        whole.frames += one.frames
        whole.damaged |= one.damaged
        whole.foreign += one.foreign
        whole.without_image += one.without_image
    whole.frames, whole.copies = _without_copies(whole.frames)
    return whole


def _read_folder(paths: Sequence[Path]) -> Contents:
    found = Contents()
    unread: dict[Path, str] = {}
    for path in paths:
        named = path.name.lower().endswith(SUFFIXES)
        reasons = found.damaged if named else unread
        try:
            if is_dicom(path):
                reasons = found.damaged
                frames = read_frames(path)
                found.frames += frames
                if not frames and not _is_other(path):
                    found.without_image.append(path)
            elif named:
                found.damaged[path] = _foreign(path)
            else:
                found.foreign.append(path)
        except Shortage:
            raise
        except UserError as error:
            reasons[path] = str(error)
    # A file whose name tells nothing is only known to be a damaged slice by the series beside it.
    suffixes = {_suffix(frame.path) for frame in found.frames}
    found.damaged |= {path: reason for path, reason in unread.items() if found.frames and not _is_other(path)}
    found.damaged |= {
        path: _foreign(path)
        for path in found.foreign
        if _suffix(path) in suffixes and not _is_other(path) and b"\0" in first_bytes(path)
    }
    found.foreign = [path for path in found.foreign if path not in found.damaged]
    return found


def _without_copies(frames: Sequence[Frame]) -> tuple[list[Frame], list[Path]]:
    """Return the frames without those of files that have the SOPInstanceUID and the content of another, and these."""
    first: dict[tuple[str, int | None], Frame] = {}
    equal: dict[tuple[Path, Path], bool] = {}
    kept: list[Frame] = []
    copies: dict[Path, None] = {}
    for frame in frames:
        other = first.setdefault((frame.uid, frame.index), frame) if frame.uid else frame
        pair = other.path, frame.path
        if other is not frame and pair not in equal:
            equal[pair] = other.shape == frame.shape and _equal(other, frame)
        if other is not frame and equal[pair]:
            copies[frame.path] = None
        else:
            kept.append(frame)
    return kept, list(copies)


def _equal(one: Frame, other: Frame) -> bool:
    """Return whether two files are equal, or their frames have the same place and pixels."""
    if one.path.stat().st_size == other.path.stat().st_size and filecmp.cmp(one.path, other.path, shallow=False):
        return True
    if one.number != other.number or abs(one.depth - other.depth) > 0:
        return False
    try:
        return np.array_equal(one.decode(), other.decode())
    except Shortage:
        raise
    except UserError:
        return False  # the one that cannot be decoded is told when it is opened


def _folders(series: Series) -> set[Path]:
    return {path.parent for path in series.paths}


def _foreign(path: Path) -> str:
    return f"{path} is not DICOM, unlike its neighbours or its name: copy or export it again"


def _is_other(path: Path) -> bool:
    """Return whether a name says that a file is no image."""
    return path.suffix.lower() in _OTHER_SUFFIXES or path.name.upper() == "DICOMDIR"


def _suffix(path: Path) -> str:
    """Return the suffix of a name, and none where it is a number, as in IM.0001."""
    suffix = path.suffix.lower().lstrip(".")
    return "" if suffix.isdigit() else suffix
