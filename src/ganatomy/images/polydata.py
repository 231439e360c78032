"""Polylines of VTK files, legacy (.vtk) and XML (.vtp), as programs for centre-lines write them.

Read by a few functions here and not by a library: VTK itself is a hundred times the size of ganatomy, and meshio reads
unstructured grids only. File formats: https://docs.vtk.org/en/latest/vtk_file_formats/index.html
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.images.parsing import parsing

SUFFIXES = (".vtk", ".vtp")
LEGACY = {
    "char": "i1",
    "signed_char": "i1",
    "unsigned_char": "u1",
    "short": "i2",
    "unsigned_short": "u2",
    "int": "i4",
    "unsigned_int": "u4",
    "long": "i8",
    "unsigned_long": "u8",
    "vtktypeint32": "i4",
    "vtktypeint64": "i8",
    "vtkidtype": "i4",
    "float": "f4",
    "double": "f8",
}
"""Types of legacy files to those of NumPy."""
XML = {
    **{f"Int{8 * size}": f"i{size}" for size in (1, 2, 4, 8)},
    **{f"UInt{8 * size}": f"u{size}" for size in (1, 2, 4, 8)},
    "Float32": "f4",
    "Float64": "f8",
}
"""Types of XML files to those of NumPy."""
CELLS = ("VERTICES", "LINES", "POLYGONS", "TRIANGLE_STRIPS")


@dataclass(frozen=True, eq=False)
class PolyData:
    """Points, polylines, and numbers of the points.

    Attributes:
        points: (n, 3).
        lines: indices of the points of each line.
        arrays: name to numbers of the points, (n,) or (n, components).
    """

    points: NDArray[np.float64]
    lines: Sequence[NDArray[np.int64]] = ()
    arrays: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def read_polydata(path: Path) -> PolyData:
    """Read the points and lines of a VTK file.

    Raises:
        UserError: the file cannot be read, or holds no polydata.
    """
    with parsing(path, "polydata of VTK"):
        content = path.read_bytes()
        found = _xml(path, content) if path.suffix.lower() == ".vtp" else _legacy(path, content)
        for line in found.lines:
            if line.size and not 0 <= line.min() <= line.max() < len(found.points):
                raise UserError(f"{path}: a line names points that do not exist; export it again")
        return found


class _Legacy:
    """Words and numbers of a legacy file, which may be binary."""

    def __init__(self, path: Path, content: bytes):
        self.path, self.content, self.place = path, content, 0
        version, _, kind = self.line(), self.line(), self.line()
        if not version.lower().startswith("# vtk datafile") or kind.upper() not in ("ASCII", "BINARY"):
            raise UserError(f"{path} is no legacy VTK file; .vtp files are XML")
        self.binary = kind.upper() == "BINARY"

    def line(self) -> str:
        """Return the rest of the line."""
        end = self.content.find(b"\n", self.place)
        end = len(self.content) if end < 0 else end
        text = self.content[self.place : end].decode("ascii", "replace").strip()
        self.place = end + 1
        return text

    def words(self) -> list[str]:
        """Return the words of the next line that is not empty; none at the end."""
        while self.place < len(self.content):
            if found := self.line().split():
                return found
        return []

    def numbers(self, kind: str, count: int) -> NDArray[Any]:
        """Return as many numbers of a type."""
        name = LEGACY.get(kind.lower())
        if name is None:
            raise UserError(f"{self.path}: numbers of the type {kind}, which are not read")
        if self.binary:
            dtype = np.dtype(f">{name}")
            found = np.frombuffer(self.content, dtype, count, self.place)
            self.place += count * dtype.itemsize
            return found
        values: list[float] = []
        while len(values) < count:
            words = self.words()
            if not words:
                raise UserError(f"{self.path} ends within its numbers; copy or export it again")
            values += map(float, words)
        return np.array(values[:count])

    def skip_metadata(self) -> None:
        """Pass what newer versions write after arrays, which an empty line ends."""
        while self.place < len(self.content) and self.line():
            pass


def _legacy(path: Path, content: bytes) -> PolyData:
    file = _Legacy(path, content)
    words = file.words()
    if [word.upper() for word in words] != ["DATASET", "POLYDATA"]:
        raise UserError(f"{path} holds {' '.join(words[1:]).lower() or 'nothing'}; centre-lines are polydata")
    points, lines, of_points, count = np.zeros((0, 3)), list[NDArray[np.int64]](), False, 0
    arrays: dict[str, NDArray[np.float64]] = {}
    while words := file.words():
        head = words[0].upper()
        if head == "POINTS":
            points = file.numbers(words[2], 3 * int(words[1])).reshape(-1, 3).astype(np.float64)
        elif head in CELLS:
            cells = _legacy_cells(file, int(words[1]), int(words[2]))
            lines = cells if head == "LINES" else lines
        elif head in ("POINT_DATA", "CELL_DATA"):
            of_points, count = head == "POINT_DATA", int(words[1])
        elif head == "METADATA":
            file.skip_metadata()
        elif head == "FIELD":
            for _ in range(int(words[2])):
                own = file.words()
                while own and own[0].upper() == "METADATA":
                    file.skip_metadata()
                    own = file.words()
                width, rows = int(own[1]), int(own[2])
                values = file.numbers(own[3], width * rows).reshape(rows, width).astype(np.float64)
                if of_points:
                    arrays[own[0]] = values[:, 0] if width == 1 else values
        elif head == "SCALARS":
            width = int(words[3]) if len(words) > 3 else 1
            file.words()  # the name of the lookup table
            values = file.numbers(words[2], count * width).reshape(count, width).astype(np.float64)
            if of_points:
                arrays[words[1]] = values[:, 0] if width == 1 else values
        elif head in ("VECTORS", "NORMALS"):
            file.numbers(words[2], 3 * count)
        else:
            break  # attributes that no centre-line needs
    return PolyData(points, lines, arrays)


def _legacy_cells(file: _Legacy, first: int, second: int) -> list[NDArray[np.int64]]:
    """Return cells: counts and indices in a row, or in newer files offsets and indices apart."""
    start = file.place
    words = file.words() if not file.binary else file.line().split()
    if words and words[0].upper() == "OFFSETS":
        offsets = file.numbers(words[1], first).astype(np.int64)
        kind = file.words()[1]
        joined = file.numbers(kind, second).astype(np.int64)
        return [joined[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
    file.place = start
    joined, cells, place = file.numbers("int", second).astype(np.int64), [], 0
    for _ in range(first):
        count = int(joined[place])
        cells.append(joined[place + 1 : place + 1 + count])
        place += 1 + count
    return cells


def _xml(path: Path, content: bytes) -> PolyData:
    appended = b""
    if match := re.search(rb"<AppendedData[^>]*>\s*_", content):
        end = content.rfind(b"</AppendedData>")
        appended, content = content[match.end() : end], content[: match.end() - 1] + content[end:]
    root = ElementTree.fromstring(content)
    piece = root.find("PolyData/Piece")
    if root.get("type") != "PolyData" or piece is None:
        raise UserError(f"{path} holds {root.get('type') or root.tag}; centre-lines are polydata")
    if root.get("compressor") not in (None, "vtkZLibDataCompressor"):
        raise UserError(f"{path} is compressed by {root.get('compressor')}; export it with zlib or uncompressed")
    encoding = (found.get("encoding") if (found := root.find("AppendedData")) is not None else None) or "base64"

    def numbers(array: ElementTree.Element | None) -> NDArray[Any]:
        if array is None:
            return np.zeros(0)
        order = "<" if root.get("byte_order", "LittleEndian") == "LittleEndian" else ">"
        dtype = np.dtype(order + XML[array.get("type", "")])
        form, text = array.get("format", "ascii"), (array.text or "").strip()
        if form == "ascii":
            return np.array(text.split(), np.float64).astype(dtype)
        header = np.dtype(order + XML[root.get("header_type", "UInt32")])
        squeezed = root.get("compressor") is not None
        if form == "appended" and encoding == "raw":
            return np.frombuffer(_blocks(appended[int(array.get("offset", "0")) :], header, squeezed), dtype)
        data = appended[int(array.get("offset", "0")) :] if form == "appended" else text.encode()
        return np.frombuffer(_blocks(_decoded(data, header, squeezed), header, squeezed), dtype)

    points = numbers(piece.find("Points/DataArray")).astype(np.float64).reshape(-1, 3)
    cells = {array.get("Name"): numbers(array) for array in piece.findall("Lines/DataArray")}
    ends = cells.get("offsets", np.zeros(0)).astype(np.int64)
    joined = cells.get("connectivity", np.zeros(0)).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    lines = [joined[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=False)]
    arrays = {}
    for array in piece.findall("PointData/DataArray"):
        values = numbers(array).astype(np.float64)
        components = int(array.get("NumberOfComponents") or 1)
        arrays[array.get("Name", "")] = values if components == 1 else values.reshape(-1, components)
    return PolyData(points, lines, arrays)


def _decoded(data: bytes, header: np.dtype[Any], squeezed: bool) -> bytes:
    """Decode an array in base64, whose header is encoded apart from its data where these are compressed."""
    data = re.match(rb"[A-Za-z0-9+/=\s]*", data).group().translate(None, b" \t\r\n")  # type: ignore[union-attr]
    width = header.itemsize
    if not squeezed:
        count = int(np.frombuffer(base64.b64decode(data[: 4 * -(-width // 3)]), header, 1)[0])
        return base64.b64decode(data[: 4 * -(-(width + count) // 3)])
    blocks = int(np.frombuffer(base64.b64decode(data[: 4 * -(-3 * width // 3)]), header, 1)[0])
    size = 4 * -(-(3 + blocks) * width // 3)
    sizes = base64.b64decode(data[:size])
    total = int(np.frombuffer(sizes, header, blocks, 3 * width).sum())
    return sizes[: (3 + blocks) * width] + base64.b64decode(data[size : size + 4 * -(-total // 3)])


def _blocks(data: bytes, header: np.dtype[Any], squeezed: bool) -> bytes:
    """Return the bytes of an array behind its header, decompressed block by block."""
    width = header.itemsize
    first = int(np.frombuffer(data, header, 1)[0])
    if not squeezed:
        return data[width : width + first]
    sizes = np.frombuffer(data, header, first, 3 * width).tolist()
    place, parts = (3 + first) * width, []
    for size in map(int, sizes):
        parts.append(zlib.decompress(data[place : place + size]))
        place += size
    return b"".join(parts)
