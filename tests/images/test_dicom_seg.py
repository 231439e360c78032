import numpy as np
import pydicom
import pytest
from highdicom.pm import ParametricMap
from highdicom.seg import segread

from dicom_kinds import errors, write_cine, write_enhanced_mr, write_file, write_series
from ganatomy.errors import UserError
from ganatomy.images.dicom_out import IMPLEMENTATION_UID, Derivation
from ganatomy.images.dicom_seg import can_refer, write_map, write_segmentation
from ganatomy.images.files import find, read
from ganatomy.images.labelmaps import placed

FOUND = Derivation("Found by a network.", "net", "sha256:0123", "0.1", "thin [net mask]", number=2)
NAMES = {1: "liver", 4: "necrotic core"}
KINDS = ("CT", "MR", "PT", "CR", "US", "MG")


def source(folder, modality):
    if modality == "enhanced":
        write_enhanced_mr(folder / "a.dcm")
    else:
        write_series(folder, modality)
    return read(folder)


def label_map(image):
    labels = np.zeros(image.array.shape, np.uint8)
    labels[..., 2:5, 3:6], labels[0, 0, 7] = 4, 1
    return image.with_array(labels, unit=None)


@pytest.mark.parametrize("modality", [*KINDS, "enhanced"])
def test_a_mask_becomes_a_segmentation_that_is_read_as_it_was(tmp_path, modality):
    image = source(tmp_path / "in", modality)
    write_segmentation(tmp_path / "out", label_map(image), NAMES, FOUND)
    (found,) = find(tmp_path / "out")
    back = placed(found.labelled().open(), image)
    np.testing.assert_array_equal(back.numpy(), label_map(image).numpy())
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-6)
    assert errors(tmp_path / "out" / "00001.dcm") == set()


def test_a_segmentation_names_its_regions_its_sources_and_its_model(tmp_path):
    image = source(tmp_path / "in", "CT")
    write_segmentation(tmp_path / "out", label_map(image), NAMES, FOUND)
    file = segread(tmp_path / "out" / "00001.dcm")
    assert [(one.SegmentNumber, one.SegmentLabel) for one in file.SegmentSequence] == [
        (1, "liver"),
        (2, "necrotic core"),
    ]
    assert file.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Liver"
    assert (file.Modality, file.SeriesNumber, file.SeriesDescription) == ("SEG", 2003, "thin [net mask]")
    assert (file.PatientID, file.StudyInstanceUID, file.FrameOfReferenceUID) == ("P-7", "1.2.3", "1.2.3.5")
    assert "sha256:0123" in file.ContributingEquipmentSequence[0].ContributionDescription
    assert pydicom.dcmread(tmp_path / "out" / "00001.dcm").file_meta.ImplementationClassUID == IMPLEMENTATION_UID
    known = {pydicom.dcmread(path).SOPInstanceUID for path in image.header.paths}
    frames = [group.DerivationImageSequence[0].SourceImageSequence for group in file.PerFrameFunctionalGroupsSequence]
    assert {one.ReferencedSOPInstanceUID for (one,) in frames} == known


def test_frames_of_a_segmentation_refer_to_frames_of_their_source(tmp_path):
    image = source(tmp_path / "in", "enhanced")
    write_segmentation(tmp_path / "out", label_map(image), NAMES, FOUND)
    groups = segread(tmp_path / "out" / "00001.dcm").PerFrameFunctionalGroupsSequence
    for group in groups:
        number = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        assert group.PlanePositionSequence[0].ImagePositionPatient[2] == 100 - 2 * (number - 1)


def test_an_empty_mask_and_one_on_a_finer_grid_are_segmentations(tmp_path):
    image = source(tmp_path / "in", "CT")
    empty = image.with_array(np.zeros(image.array.shape, np.uint8), unit=None)
    write_segmentation(tmp_path / "empty", empty, {1: "lesion"}, FOUND)
    assert not find(tmp_path / "empty")[0].labelled().open().numpy().any()
    fine = image.with_geometry(np.ones((1, 6, 24, 20), np.uint8), image.affine @ np.diag([0.5, 0.5, 0.5, 1]))
    write_segmentation(tmp_path / "fine", fine, {1: "lesion"}, FOUND)
    back = placed(find(tmp_path / "fine")[0].labelled().open(), fine)
    assert back.shape == (6, 24, 20)
    np.testing.assert_allclose(back.spacing, (1, 0.375, 0.25))


@pytest.mark.parametrize("modality", ["CT", "MR", "PT", "enhanced"])
def test_probabilities_become_a_parametric_map_of_the_same_numbers(tmp_path, modality):
    image = source(tmp_path / "in", modality)
    values = np.random.default_rng(0).random(image.array.shape).astype(np.float32)
    write_map(tmp_path / "out", image.with_array(values, unit=None), FOUND)
    file = ParametricMap.from_dataset(pydicom.dcmread(tmp_path / "out" / "00001.dcm"))
    volume = file.get_volume(apply_real_world_transform=True)
    order = [position[0].ImagePositionPatient[2] for position in volume.get_plane_positions()]
    np.testing.assert_array_equal(volume.array[np.argsort(order)], values[0])
    np.testing.assert_array_equal(read(tmp_path / "out").numpy(), values)
    mapping = file.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeMeaning == "no units"
    assert (file.SOPClassUID.name, file.SeriesNumber) == ("Parametric Map Storage", 2003)
    assert errors(tmp_path / "out" / "00001.dcm") == set()


def test_what_has_no_place_cannot_be_referred_to_by_several_slices_or_by_maps(tmp_path):
    write_cine(tmp_path / "cine" / "a.dcm")
    assert not can_refer(read(tmp_path / "cine"))
    radiograph = source(tmp_path / "in", "CR")
    assert can_refer(radiograph)
    assert not can_refer(radiograph, planes=True)


def test_what_cannot_be_written_is_refused_by_name(tmp_path):
    image = source(tmp_path / "in", "CT")
    with pytest.raises(UserError, match="labels, which are integers"):
        write_segmentation(tmp_path / "out", image.with_array(image.numpy() + 0.5), NAMES, FOUND)
    with pytest.raises(UserError, match="NaN"):
        write_map(tmp_path / "out", image.with_array(np.full(image.array.shape, np.nan)), FOUND)
    data = pydicom.dcmread(image.header.paths[1])
    data.StudyInstanceUID = "1.2.4"
    data.save_as(image.header.paths[1])
    with pytest.raises(UserError, match="no Segmentation can refer to its header"):
        write_segmentation(tmp_path / "out", label_map(image), NAMES, FOUND)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Invalid value for VR TM")
def test_a_single_region_in_a_radiograph_and_a_damaged_header_are_no_obstacle(tmp_path):
    write_series(tmp_path / "in", "CR", PatientSex="X", StudyTime="14:04:38", SeriesInstanceUID=None)
    image = read(tmp_path / "in")
    labels = image.with_array((image.numpy() > 100).astype(np.uint8), unit=None)
    write_segmentation(tmp_path / "out", labels, {1: "lung"}, FOUND)
    np.testing.assert_array_equal(find(tmp_path / "out")[0].labelled().open().numpy(), labels.numpy())


def test_sources_without_what_a_segmentation_needs_are_known_beforehand(tmp_path):
    write_file(tmp_path / "ct" / "a.dcm", "CT", np.zeros((4, 4), np.uint16), FrameOfReferenceUID=None)
    write_file(tmp_path / "sc" / "a.dcm", "CR", np.zeros((4, 4), np.uint16), NumberOfFrames=1)
    assert not can_refer(read(tmp_path / "ct"))
    assert not can_refer(read(tmp_path / "sc"))
