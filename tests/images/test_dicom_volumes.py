"""Several volumes at the same positions are split by what tells them apart, or refused by name."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, VLWholeSlideMicroscopyImageStorage

from ganatomy.case import Case
from ganatomy.data.layouts import by_series
from ganatomy.errors import UserError
from ganatomy.images.files import find, read

MR = {"Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None}
DWI = ["DERIVED", "PRIMARY", "DIFFUSION"]


def grey(value, shape=(4, 4)):
    return np.full(shape, value, np.uint16)


def item(**attributes):
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def write(folder, slice_file, volumes, slices=3, each=lambda index: {}):
    """Write slices of volumes, whose values are 10 x number of the volume + number of the slice."""
    for number, marks in enumerate(volumes):
        for index in range(slices):
            name = folder / f"{number}{index}.dcm"
            own = {**MR, **each(index), **marks}
            slice_file(name, grey(10 * number + index), z=2.0 * index, InstanceNumber=1 + index, **own)


def volumes(path):
    """Return the words of each volume to the values of its slices."""
    found = {}
    for source in find(path):
        image = source.open()
        assert image.header.volume == source.volume and image.spacing[0] == 2
        found[source.volume] = image.numpy()[0, :, 0, 0].tolist()
    return found


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ([{"EchoNumbers": number} for number in (1, 2)], ["echo 1", "echo 2"]),
        ([{"EchoTime": time} for time in (4.6, 2.3)], ["echo time 4.6 ms", "echo time 2.3 ms"]),
        ([{"DiffusionBValue": float(value)} for value in (0, 1000)], ["b-value 0", "b-value 1000"]),
        ([{"TemporalPositionIdentifier": number} for number in (1, 2)], ["temporal position 1", "temporal position 2"]),
        ([{"ImageType": [*DWI, kind]} for kind in ("ADC", "FA")], ["type ADC", "type FA"]),
        ([{"AcquisitionNumber": number} for number in (7, 8)], ["acquisition 7", "acquisition 8"]),
        ([{"AcquisitionTime": time} for time in ("101500", "101500.5")], ["time 1", "time 2"]),
        (
            [{"EchoNumbers": echo, "ImageType": [*DWI, kind]} for echo in (1, 2) for kind in ("M", "P")],
            ["echo 1, type M", "echo 1, type P", "echo 2, type M", "echo 2, type P"],
        ),
        (
            [
                {"DiffusionBValue": 0.0},
                {"DiffusionBValue": 700.0, "DiffusionGradientOrientation": [1.0, 0.0, 0.0]},
                {"DiffusionBValue": 700.0, "DiffusionGradientOrientation": [0.0, 1.0, 0.0]},
            ],
            ["b-value 0", "b-value 700, direction 2", "b-value 700, direction 1"],
        ),
    ],
)
def test_volumes_are_told_apart(tmp_path, slice_file, marks, words):
    write(tmp_path, slice_file, marks)
    expected = {name: [10 * number + index for index in range(3)] for number, name in enumerate(words)}
    assert volumes(tmp_path) == expected
    names = [source.name for source in find(tmp_path)]
    assert len(set(names)) == len(marks) and all(words[0].split()[0] in name for name in names)


def test_volumes_may_differ_where_the_slices_of_each_agree(tmp_path, slice_file):
    kinds = [{"ImageType": [*DWI, "M"], "RescaleSlope": "2", "RescaleIntercept": "0"}, {"ImageType": [*DWI, "P"]}]
    write(tmp_path, slice_file, kinds)
    assert volumes(tmp_path) == {"type M": [0, 2, 4], "type P": [10, 11, 12]}
    slice_file(tmp_path / "stranger", grey(7), z=6.0, **MR, ImageType=[*DWI, "M"])
    (source,) = find(tmp_path)
    assert "where the others have" in source.problem


def test_phases_are_ordered_where_every_slice_has_its_own_times(tmp_path, slice_file):
    for phase in range(2):
        for index in range(3):
            own = {"TriggerTime": f"{100 * phase + 7 * index}", "InstanceNumber": 1 + phase + 2 * index}
            slice_file(tmp_path / f"{phase}{index}", grey(10 * phase + index), z=2.0 * index, **MR, **own)
    assert volumes(tmp_path) == {"phase 1": [0, 1, 2], "phase 2": [10, 11, 12]}


def test_marks_that_change_from_slice_to_slice_split_nothing(tmp_path, slice_file):
    write(tmp_path, slice_file, [{}], each=lambda index: {"AcquisitionNumber": index, "TriggerTime": f"{index}"})
    assert volumes(tmp_path) == {None: [0, 1, 2]}


def test_an_incomplete_volume_is_refused_and_the_others_are_read(tmp_path, slice_file):
    write(tmp_path, slice_file, [{"TemporalPositionIdentifier": number} for number in (1, 2, 3)])
    (tmp_path / "22.dcm").unlink()
    whole, other, part = find(tmp_path)
    assert whole.problem is None and other.problem is None
    assert "temporal position 3 has 2 of the 3 slices that other volumes of its series have" in part.problem


def test_volumes_that_nothing_tells_apart_are_refused_without_bad_advice(tmp_path, slice_file):
    write(tmp_path, slice_file, [{}, {}])
    with pytest.raises(UserError, match=r"lie at one position.* but differ, .*echo, b-value, phase, time") as told:
        read(tmp_path)
    assert "remove" not in str(told.value)
    assert read(tmp_path, uneven=True).shape[0] == 6


@pytest.mark.parametrize("pointer", [0x00189087, 0x00209128])
def test_frames_of_one_file_are_split_into_volumes(tmp_path, slice_file, pointer):
    values = [10 * volume + index for index in range(3) for volume in range(2)]
    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * (value % 10)])],
            FrameContentSequence=[item(DimensionIndexValues=[1 + value % 10, 1 + value // 10])],
        )
        for value in values
    ]
    data = slice_file(
        tmp_path / "a.dcm",
        grey(0),
        **MR,
        SOPClassUID=EnhancedMRImageStorage,
        NumberOfFrames=6,
        PerFrameFunctionalGroupsSequence=frames,
        DimensionIndexSequence=[item(DimensionIndexPointer=0x00200032), item(DimensionIndexPointer=pointer)],
    )
    data.PixelData = np.concatenate([grey(value) for value in values]).tobytes()
    data.save_as(tmp_path / "a.dcm")
    words = {0x00189087: "diffusion b-value", 0x00209128: "temporal position index"}[pointer]
    assert volumes(tmp_path / "a.dcm") == {f"{words} 1": [0, 1, 2], f"{words} 2": [10, 11, 12]}
    assert len(volumes(tmp_path)) == 2


def test_volumes_of_one_file_are_chosen_by_their_words_and_prepared_apart(tmp_path, slice_file):
    write(tmp_path, slice_file, [{"EchoNumbers": number} for number in (1, 2)])
    ((_, _, chosen),) = by_series(find(tmp_path), {"early": "*echo 1", "late": "thin echo 2"})
    assert [chosen[role].volume for role in ("early", "late")] == ["echo 1", "echo 2"]
    one, other = (Case("a", "a", "train", {"image": source}) for source in chosen.values())
    same = Case("a", "a", "train", {"image": chosen["early"]})
    assert one.fingerprint == same.fingerprint != other.fingerprint


def nuclear(path, slice_file, values, **vectors):
    own = {"Modality": "NM", "ImagePositionPatient": None, "SpacingBetweenSlices": "2", "RescaleIntercept": "0"}
    data = slice_file(path, grey(0), NumberOfFrames=len(values), **own, **vectors)
    data.PixelData = np.concatenate([grey(value) for value in values]).tobytes()
    data.save_as(path)


def test_frames_of_nuclear_medicine_are_split_by_what_numbers_them(tmp_path, slice_file):
    gated = {"TimeSlotVector": [1, 1, 1, 2, 2, 2], "SliceVector": [1, 2, 3, 1, 2, 3]}
    nuclear(tmp_path / "gated.dcm", slice_file, [0, 1, 2, 10, 11, 12], EnergyWindowVector=[1] * 6, **gated)
    assert volumes(tmp_path / "gated.dcm") == {"time slot 1": [0, 1, 2], "time slot 2": [10, 11, 12]}
    nuclear(tmp_path / "planar.dcm", slice_file, [3, 4], DetectorVector=[1, 2])
    assert volumes(tmp_path / "planar.dcm") == {"detector 1": [3], "detector 2": [4]}
    nuclear(tmp_path / "slices.dcm", slice_file, [5, 6, 7], SliceVector=[1, 2, 3])
    assert volumes(tmp_path / "slices.dcm") == {None: [5, 6, 7]}


def test_mosaics_and_whole_slides_are_refused_by_name(tmp_path, slice_file):
    mosaic = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    write(tmp_path / "mosaic", slice_file, [{"ImageType": mosaic, "AcquisitionNumber": number} for number in (1, 2)], 1)
    (source,) = find(tmp_path / "mosaic")
    assert "is a mosaic" in source.problem and "dcm2niix" in source.problem
    slide = {"TotalPixelMatrixRows": 70000, "TotalPixelMatrixColumns": 90000, "NumberOfFrames": 200000}
    kind = {"SOPClassUID": VLWholeSlideMicroscopyImageStorage, "Modality": "SM", "ImagePositionPatient": None}
    slice_file(tmp_path / "slide.dcm", np.zeros((4, 4, 3), np.uint8), **kind, **slide)
    with pytest.raises(UserError, match=r"slide\.dcm is a whole slide of 90000 x 70000 pixels in 200000 tiles"):
        read(tmp_path / "slide.dcm")
