"""Volumes of one series that only private attributes of the scanner's maker tell apart."""

import struct

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicom_kinds import write_file
from ganatomy.images.dicom_out import write_dicom
from ganatomy.images.dicom_private import diffusion_of
from ganatomy.images.files import find

SIEMENS, GE, PHILIPS = "SIEMENS MR HEADER", "GEMS_PARM_01", "Philips Imaging DD 001"
PLACES = {SIEMENS: (0x0019, 0x0C, "IS"), GE: (0x0043, 0x39, "IS"), PHILIPS: (0x2001, 0x03, "FL")}
Z = [[-7.0, 4.0, 10.0 + 3 * index] for index in range(3)]


def state(data, creator, value, block=0x10, kind=None):
    """State a b-value as a maker does, in a block of the group."""
    group, element, usual = PLACES[creator]
    data.add_new(group << 16 | block, "LO", creator)
    data.add_new(group << 16 | block << 8 | element, kind or usual, value)


def direct(data, creator, direction):
    if creator == SIEMENS:
        data.add_new(0x0019100E, "FD", direction)
        return
    other, group, first, kind = {
        GE: ("GEMS_ACQU_01", 0x0019, 0xBB, "DS"),
        PHILIPS: ("Philips MR Imaging DD 001", 0x2005, 0xB0, "FL"),
    }[creator]
    data.add_new(group << 16 | 0x10, "LO", other)
    for step, number in enumerate(direction):
        data.add_new(group << 16 | 0x1000 | first + step, kind, number)


def write(folder, volumes, **attributes):
    """Write 3 slices of each volume, which a function marks, with values 10 x volume + slice."""
    for number, mark in enumerate(volumes):
        for index, position in enumerate(Z):
            path = folder / f"{number}{index}.dcm"
            pixels = np.full((5, 4), 10 * number + index, np.uint16)
            own = {"InstanceNumber": 3 * number + index + 1, "ImagePositionPatient": position, **attributes}
            data = write_file(path, "MR", pixels, **own)
            mark(data)
            pydicom.dcmwrite(path, data, enforce_file_format=True)


def values(folder):
    return {source.volume: source.open().numpy()[0, :, 0, 0].tolist() for source in find(folder)}


@pytest.mark.parametrize(
    ("creator", "stated"),
    [
        (SIEMENS, [0, 700]),
        (GE, [[0, 8, 0, 0], [700, 8, 0, 0]]),
        (GE, [[0, 8, 0, 0], [1_000_000_700, 8, 0, 0]]),
        (PHILIPS, [0.0, 700.0]),
    ],
)
@pytest.mark.parametrize("block", [0x10, 0x12])
def test_b_values_of_a_maker_tell_volumes_apart(tmp_path, creator, stated, block):
    write(tmp_path, [lambda data, one=one: state(data, creator, one, block) for one in reversed(stated)])
    assert values(tmp_path) == {"b-value 0": [10, 11, 12], "b-value 700": [0, 1, 2]}


@pytest.mark.parametrize("creator", [SIEMENS, GE, PHILIPS])
def test_directions_of_a_maker_tell_volumes_of_one_b_value_apart(tmp_path, creator):
    def mark(weight, direction):
        def change(data):
            state(data, creator, weight if creator != GE else [weight, 0, 0, 0])
            direct(data, creator, direction)

        return change

    write(tmp_path, [mark(0, [0.0, 0.0, 0.0]), mark(700, [1.0, 0.0, 0.0]), mark(700, [0.0, -0.6, 0.8])])
    assert values(tmp_path) == {
        "b-value 0": [0, 1, 2],
        "b-value 700, direction 1": [20, 21, 22],
        "b-value 700, direction 2": [10, 11, 12],
    }


def test_the_same_tag_in_the_block_of_another_maker_means_nothing():
    data = Dataset()
    data.add_new(0x00190010, "LO", "ANOTHER MAKER")
    data.add_new(0x0019100C, "IS", 700)
    assert diffusion_of(data) == {}
    data.add_new(0x00190011, "LO", SIEMENS)
    data.add_new(0x0019110C, "IS", 50)
    assert diffusion_of(data) == {"DiffusionBValue": 50}


@pytest.mark.parametrize(
    ("creator", "value", "wanted"),
    [
        (SIEMENS, b"700 ", {"DiffusionBValue": 700}),
        (GE, b"1000000700\\8\\0\\0", {"DiffusionBValue": 700}),
        (PHILIPS, struct.pack("<f", 700), {"DiffusionBValue": 700}),
        (PHILIPS, struct.pack("<f", np.nan), {}),
        (SIEMENS, b"\xff\xfe\xfd", {}),
        (SIEMENS, b"", {}),
        (SIEMENS, b"none", {"DiffusionBValue": pytest.approx(struct.unpack("<f", b"none")[0])}),
    ],
)
def test_values_of_unknown_type_are_numbers_where_they_can_be(creator, value, wanted):
    data = Dataset()
    state(data, creator, value, kind="UN")
    assert diffusion_of(data) == wanted


def test_files_without_types_are_read_and_dicoms_own_attribute_comes_first(tmp_path):
    def mark(own, private):
        def change(data):
            state(data, SIEMENS, private)
            data.DiffusionBValue = own
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

        return change

    write(tmp_path / "both", [mark(0.0, 700), mark(1000.0, 700)])
    assert list(values(tmp_path / "both")) == ["b-value 0", "b-value 1000"]
    write(tmp_path / "private", [mark(None, 0), mark(None, 700)])
    assert list(values(tmp_path / "private")) == ["b-value 0", "b-value 700"]


def test_outputs_state_the_b_value_in_dicoms_own_attribute(tmp_path):
    def mark(weight):
        return lambda data: (state(data, SIEMENS, weight), direct(data, SIEMENS, [0.0, 0.6, 0.8]))

    write(tmp_path / "in", [mark(0), mark(700)])
    for source in find(tmp_path / "in"):
        write_dicom(tmp_path / source.volume, source.open())
        out = pydicom.dcmread(tmp_path / source.volume / "00001.dcm")
        assert source.volume.split(",")[0] == f"b-value {out.DiffusionBValue:g}"
        assert out.get("DiffusionGradientOrientation") == ([0.0, 0.6, 0.8] if out.DiffusionBValue else None)
        assert 0x0019100C not in out
    write(tmp_path / "single", [mark(8)])
    (source,) = find(tmp_path / "single")
    write_dicom(tmp_path / "out", source.open())
    assert "DiffusionBValue" not in pydicom.dcmread(tmp_path / "out" / "00001.dcm")
