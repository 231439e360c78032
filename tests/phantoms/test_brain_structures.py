import numpy as np
import pytest

from ganatomy.phantoms import make
from ganatomy.phantoms.brain import BrainMR
from ganatomy.phantoms.brain_structures import CORTEX, FLUID, NUCLEI, VENTRICLES, WHITE, BrainStructuresMR


@pytest.fixture(scope="module")
def patients() -> list[BrainStructuresMR]:
    return [BrainStructuresMR(seed, size=72, slices=12) for seed in range(3)]


def test_structures_divide_the_tissues_of_a_healthy_brain(patients: list[BrainStructuresMR]) -> None:
    for patient in patients:
        found, masks = patient.labels["structures"], patient.masks
        assert patient.label == "healthy" and found.dtype == np.uint8
        np.testing.assert_array_equal(found > 0, masks["brain"])
        np.testing.assert_array_equal(np.isin(found, (FLUID, VENTRICLES)), masks["csf"])
        assert set(np.unique(found[masks["grey"]])) == {CORTEX, NUCLEI}
        assert (found[masks["white"]] == WHITE).mean() > 0.95
        assert (found[patient.regions["ventricles"]] == VENTRICLES).all()


def test_nuclei_lie_deep_and_fluid_beside_the_skull(patients: list[BrainStructuresMR]) -> None:
    for patient in patients:
        found = patient.labels["structures"]
        rows, columns = np.indices(found.shape)[1:] - 35.5
        apart = np.hypot(rows / 40, columns / 33)
        assert apart[found == NUCLEI].max() < 0.6 < apart[found == FLUID].mean()
        assert apart[found == VENTRICLES].mean() < 0.6


def test_it_is_the_patient_of_the_same_seed_and_takes_its_options() -> None:
    patient = make("brain-structures-mr", 4, size=60, slices=3, skull=True, distance_mm=5.0)
    same = BrainMR(4, size=60, slices=3, skull=True, distance_mm=5.0)
    np.testing.assert_array_equal(patient.images["t1"].array, same.images["t1"].array)
    assert patient.labels["structures"].shape == (3, 60, 60)
    assert patient.image.numpy()[0][patient.labels["structures"] == 0].max() > 500, "fat of the scalp"
