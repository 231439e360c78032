from dataclasses import replace

import numpy as np
import pytest
import torch

from ganatomy.errors import UserError
from ganatomy.metrics.classification import McNemar
from ganatomy.studies.augmentation import (
    CLASSIC,
    CONTROLS,
    DUPLICATES,
    ONLY,
    REAL,
    SYNTHETIC,
    Arm,
    Gain,
    augmentation_gain,
    classic_augmentation,
    patient_folds,
    patients_of,
)
from ganatomy.tasks.synthesis.sets import ImageSet

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("small", "large")


def disks(labels, seed=0):
    """A disk for every label, 1 larger than 0, somewhere in a noisy plane."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16]
    images = []
    for label in np.asarray(labels):
        distance = np.hypot(rows - rng.uniform(5, 11), columns - rng.uniform(5, 11))
        images.append(np.where(distance < (2 + 2 * label), 0.8, -0.8) + rng.normal(0, 0.1, (16, 16)))
    return torch.from_numpy(np.asarray(images, np.float32))[:, None]


def patients(number, seed=0, share=0.5):
    """Two images of every patient."""
    labels = [int(index >= number * share) for index in range(number) for _ in range(2)]
    subjects = tuple(f"p{index}" for index in range(number) for _ in range(2))
    return ImageSet(disks(labels, seed), torch.tensor(labels), subjects)


def honest(labels, seed):
    return disks(labels, 100 + seed)


def swapped(labels, seed):
    return disks(1 - labels, 100 + seed)


def test_folds_keep_patients_together_and_classes_apart():
    data = patients(17, share=0.6)
    folds = patient_folds(data, 3)
    assert sorted(np.concatenate(folds).tolist()) == list(range(34))
    owners = [{data.subjects[i] for i in fold} for fold in folds]
    assert not owners[0] & owners[1] and not owners[1] & owners[2] and not owners[0] & owners[2]
    assert max(map(len, owners)) - min(map(len, owners)) <= 1
    assert all(set(patients_of(data.take(fold))) == {0, 1} for fold in folds)
    with pytest.raises(UserError, match="label 1 has 2 patients"):
        patient_folds(patients(10, share=0.8), 3)
    with pytest.raises(UserError, match="labelled"):
        patient_folds(replace(data, labels=None), 3)


def gained(make, seeds=1, **more):
    """Return the gain from images that ``make`` generates."""
    return augmentation_gain(patients(30), lambda *_: make, CLASSES, folds=2, seeds=seeds, steps=50, **more)


def test_synthetic_images_of_the_true_kind_teach_as_much_as_real_ones():
    found = gained(honest, seeds=2, amounts=(0.5,))
    assert found.arms[REAL].accuracy > 0.9 and found.arms[ONLY].accuracy > 0.9 and not found.dropped
    assert len(found.arms[ONLY].accuracies) == 2 and "as many real ones" in found.alone


def test_a_class_that_is_never_made_is_found():
    def forgetful(labels, seed):
        """Disks of both sizes for the small ones, and nothing for the large ones."""
        both = torch.arange(len(labels)) % 2
        return disks(torch.where(labels == 0, both, -1), seed)

    found = gained(forgetful, amounts=(0.5,))
    assert found.arms[ONLY].accuracy < 0.8 and found.dropped == ("large",) and "has dropped large" in found.alone


def test_no_patient_is_on_two_sides():
    data, seen = patients(20), []

    def learn(fold, training, choosing):
        seen.append((set(training.subjects), set(choosing.subjects)))
        return honest

    said = []
    found = augmentation_gain(data, learn, CLASSES, folds=2, seeds=1, steps=3, amounts=(1.0,), advance=said.append)
    assert len(seen) == 2 and all(not training & choosing for training, choosing in seen)
    tested = [set(data.subjects) - training - choosing for training, choosing in seen]
    assert not tested[0] & tested[1] and tested[0] | tested[1] == set(data.subjects)
    assert set(found.arms) == {REAL, SYNTHETIC, ONLY, *CONTROLS} and found.amounts == (1.0, 1.0)
    assert all(len(arm.right) == 20 for arm in found.arms.values()) and len(said) == 4
    assert sorted(found.patients) == sorted(set(data.subjects))


def test_wrong_synthetic_images_are_no_gain():
    found = augmentation_gain(
        patients(20), lambda *_: swapped, CLASSES, folds=2, seeds=1, steps=50, amounts=(0.25, 3.0)
    )
    assert found.amounts == (0.25, 0.25)
    assert found.outcome != "better" and found.arms[CLASSIC].accuracy > 0.8
    assert "Synthetic images help" not in found.words


def arm(right):
    told = np.arange(10) < right
    return Arm(told[None], (1.0, 1.0), told)


def gain(**tests):
    arms = {REAL: arm(5), SYNTHETIC: arm(9), ONLY: arm(4), **{name: arm(6) for name in CONTROLS}}
    usual = dict.fromkeys(CONTROLS, McNemar(12, 1, 7.7, 0.006, 0.003))
    return Gain(arms, CLASSES, (1.0,), usual | tests, tuple("0123456789"))


def test_a_gain_must_beat_every_control():
    assert gain().outcome == "better" and "help more than every control: 90.0%" in gain().words
    undecided = gain(**{DUPLICATES: McNemar(5, 4, 0.0, 1.0, 1.0)})
    assert undecided.outcome == "undecided" and "No gain from synthetic images is shown" in undecided.words
    harm = gain(**{CLASSIC: McNemar(0, 12, 10.0, 0.001, 0.0005)})
    assert harm.outcome == "worse" and "do harm" in harm.words and "12 lost" in harm.words
    beaten = gain(**{DUPLICATES: McNemar(1, 9, 4.9, 0.03, 0.02)})
    assert beaten.outcome == "worse" and "shown more often" in beaten.words and "9 lost" in beaten.words


def test_classic_augmentation_changes_images_and_nothing_else():
    images = disks([0, 1, 1])
    one, again = (classic_augmentation(images, torch.Generator().manual_seed(1)) for _ in range(2))
    torch.testing.assert_close(one, again)
    other = classic_augmentation(images, torch.Generator().manual_seed(2))
    assert one.shape == images.shape and not torch.allclose(one, other)
    assert float(one.max()) <= float(images.max()) + 1e-5 and abs(float(one.mean() - images.mean())) < 0.3
