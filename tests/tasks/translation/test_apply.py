"""A PET made of a CT in DICOM and a map of tumours in NIfTI."""

import json

import numpy as np
import pydicom
import pytest

import ganatomy
from ganatomy import catalogue
from ganatomy.data.cases import DataConfig
from ganatomy.images.dicom_out import Derivation, write_dicom
from ganatomy.images.files import read, write
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = TrainConfig(rounds=2, validate_every=2, validation_slices=2, threads=1, diagnose=False)
MADE = Derivation("Drawn.", "phantom", "sha256:0", "0", "CT")


@pytest.fixture(scope="module")
def run(cases, tmp_path_factory):
    config = catalogue.load("m-gan").Config.preset("small", size=(32, 32), levels=4, width=4, discriminator_width=4)
    folder = tmp_path_factory.mktemp("runs") / "pet"
    train("m-gan", folder, config, DataConfig(phantom_subjects=4, phantom_size=32, cache=cases), OPTIONS)
    return folder


@pytest.fixture
def patient(tmp_path):
    """Folder with a CT series and a map of its tumours."""
    drawn = make("chest-pet-ct", 2, size=40, slices=5, lesions=3)
    write_dicom(tmp_path / "ct", drawn.images["ct"], MADE)
    ct = read(tmp_path / "ct")
    write(tmp_path / "tumours.nii.gz", ct.with_array(drawn.labels["lesions"][None], unit=None))
    return tmp_path


def test_a_virtual_pet_lies_where_the_ct_does_and_depends_on_the_map(run, patient):
    ct, tumours = patient / "ct", patient / "tumours.nii.gz"
    made = ganatomy.apply(run, {"ct": ct, "lesions": tumours}, patient / "pet")
    assert made.outputs == [patient / "pet"] and not made.left_out
    files = [pydicom.dcmread(path) for path in sorted((patient / "pet").glob("*.dcm"))]
    assert len(files) == 5 and all(
        (file.Modality, file.Units, file.SyntheticData) == ("PT", "GML", "YES") for file in files
    )
    pet, given = read(patient / "pet"), read(ct)
    assert pet.unit == "SUV" and pet.shape == given.shape and pet.numpy().min() >= 0 and pet.numpy().max() <= 20.01
    np.testing.assert_allclose(pet.affine, given.affine, atol=1e-4)
    note = json.loads((patient / "pet.json").read_text())
    assert note["unit"] == "SUV"
    empty = read(tumours)
    write(patient / "none.nii.gz", empty.with_array(np.zeros_like(empty.numpy())))
    ganatomy.apply(run, {"ct": ct, "lesions": patient / "none.nii.gz"}, patient / "other")
    assert np.abs(read(patient / "other").numpy() - pet.numpy()).max() > 1e-3, "the map is seen"


def test_a_missing_map_is_named(run, patient):
    with pytest.raises(ganatomy.UserError, match="lesions"):
        ganatomy.apply(run, {"ct": patient / "ct"}, patient / "pet")
    assert not (patient / "pet").exists()
