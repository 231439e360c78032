"""Polydata of VTK in all the forms that its writers have, encoded here after the description of the formats."""

import base64
import struct
import zlib

import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images.polydata import read_polydata

POINTS = np.array([[0.0, 1, 2], [0.5, 1.5, 2.25], [1.0, 2, 3], [7.0, 8, 9], [7.5, 8.5, 9.5]])
RADII = np.array([2.0, 1.75, 1.5, 1.0, 0.5])
HEAD = "# vtk DataFile Version 3.0\nlines\nASCII\nDATASET POLYDATA\n"
LINES = ((0, 1, 2), (4, 3))


def check(path):
    found = read_polydata(path)
    np.testing.assert_allclose(found.points, POINTS)
    assert [line.tolist() for line in found.lines] == [list(line) for line in LINES]
    np.testing.assert_allclose(found.arrays["Radius"], RADII)
    return found


def test_legacy_text(tmp_path):
    rows = "\n".join(" ".join(map(str, point)) for point in POINTS)
    text = f"{HEAD}POINTS 5 float\n{rows}\n\nLINES 2 7\n3 0 1 2\n2 4 3\n"
    text += "CELL_DATA 2\nSCALARS group int\nLOOKUP_TABLE default\n0\n1\nPOINT_DATA 5\nSCALARS Radius double 1\n"
    (tmp_path / "a.vtk").write_text(text + "LOOKUP_TABLE default\n2 1.75 1.5\n1 0.5\nVECTORS v float\n" + "0 0 1\n" * 5)
    assert set(check(tmp_path / "a.vtk").arrays) == {"Radius"}


@pytest.mark.parametrize("newer", [False, True])
def test_legacy_binary(tmp_path, newer):
    cells = b"LINES 2 7\n" + np.array([3, 0, 1, 2, 2, 4, 3], ">i4").tobytes()
    if newer:
        offsets, joined = np.array([0, 3, 5], ">i8"), np.array([0, 1, 2, 4, 3], ">i8")
        cells = b"METADATA\nINFORMATION 0\n\nLINES 3 5\nOFFSETS vtktypeint64\n" + offsets.tobytes()
        cells += b"\nCONNECTIVITY vtktypeint64\n" + joined.tobytes()
    arrays = b"FIELD FieldData 2\nRadius 1 5 double\n" + RADII.astype(">f8").tobytes()
    arrays += b"\nMETADATA\nINFORMATION 0\n\nEdge 2 5 float\n" + np.ones(10, ">f4").tobytes() + b"\n"
    start = f"# vtk DataFile Version {'5.1' if newer else '4.2'}\nlines\nBINARY\nDATASET POLYDATA\nPOINTS 5 float\n"
    whole = start.encode() + POINTS.astype(">f4").tobytes() + b"\n" + cells + b"\nPOINT_DATA 5\n" + arrays
    (tmp_path / "a.vtk").write_bytes(whole)
    assert check(tmp_path / "a.vtk").arrays["Edge"].shape == (5, 2)


def inline(values, form, wide, squeezed):
    """Return the text or the bytes of an array."""
    data, header = values.tobytes(), "<Q" if wide else "<I"
    if form == "ascii":
        return " ".join(map(str, values.ravel().tolist())).encode()
    if not squeezed:
        whole = struct.pack(header, len(data)) + data
        return whole if form == "raw" else base64.b64encode(whole)
    blocks = [zlib.compress(data[start : start + 16]) for start in range(0, len(data), 16)]
    sizes = struct.pack(f"<{3 + len(blocks)}{header[1]}", len(blocks), 16, len(data) % 16, *map(len, blocks))
    parts = sizes, b"".join(blocks)
    return b"".join(parts) if form == "raw" else b"".join(map(base64.b64encode, parts))


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("form", ["ascii", "binary", "base64", "raw"])
def test_xml(tmp_path, form, wide, squeezed):
    given = {
        "Radius": RADII,
        "points": POINTS.astype("<f4"),
        "connectivity": np.array([0, 1, 2, 4, 3], "<i8"),
        "offsets": np.array([3, 5], "<i4"),
    }
    kinds, appended, tags = {"d": "Float64", "f": "Float32", "q": "Int64", "l": "Int64", "i": "Int32"}, b"", {}
    for name, values in given.items():
        data = inline(values, form, wide, squeezed)
        stated = f'type="{kinds[values.dtype.char]}" Name="{name}"' + (
            ' NumberOfComponents="3"' if values.ndim > 1 else ""
        )
        if form in ("base64", "raw"):
            tags[name] = f'<DataArray {stated} format="appended" offset="{len(appended)}"/>'.encode()
            appended += data
        else:
            tags[name] = f'<DataArray {stated} format="{form}">'.encode() + data + b"</DataArray>"
    head = 'byte_order="LittleEndian"' + (' header_type="UInt64"' if wide else "")
    head += ' compressor="vtkZLibDataCompressor"' if squeezed else ""
    whole = f'<?xml version="1.0"?>\n<VTKFile type="PolyData" version="0.1" {head}><PolyData><Piece>'.encode()
    whole += b"<PointData>" + tags["Radius"] + b"</PointData><Points>" + tags["points"] + b"</Points><Lines>"
    whole += tags["connectivity"] + tags["offsets"] + b"</Lines></Piece></PolyData>"
    if appended:
        whole += f'<AppendedData encoding="{form}">\n _'.encode() + appended + b"</AppendedData>"
    (tmp_path / "a.vtp").write_bytes(whole + b"</VTKFile>")
    check(tmp_path / "a.vtp")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.vtk", "hello\n", "no legacy VTK file"),
        ("a.vtk", "# vtk DataFile Version 3.0\nx\nASCII\nDATASET UNSTRUCTURED_GRID\n", "holds unstructured_grid"),
        ("a.vtk", f"{HEAD}POINTS 5 float\n1 2\n", "ends within"),
        ("a.vtk", f"{HEAD}POINTS 5 bit\n1 2\n", "of the type bit"),
        (
            "a.vtk",
            f"{HEAD}POINTS 1 int\n1 2 3\nLINES 1 3\n2 0 4\n",
            "do not exist",
        ),
        ("a.vtp", "<VTKFile type='PolyData'>", "cannot be read as polydata of VTK"),
        ("a.vtp", "<VTKFile type='ImageData'/>", "holds ImageData"),
        (
            "a.vtp",
            "<VTKFile type='PolyData' compressor='LZ4'><PolyData><Piece/></PolyData></VTKFile>",
            "LZ4",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=told):
        read_polydata(tmp_path / name)
