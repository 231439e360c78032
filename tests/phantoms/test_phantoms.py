import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images.image import Image
from ganatomy.phantoms import PHANTOMS, called, label, make, part, source, subject

IMAGES = [name for name in PHANTOMS if name != "coronary-centrelines"]


@pytest.mark.parametrize("name", IMAGES)
def test_every_phantom_keeps_the_common_promise(name: str) -> None:
    phantom = make(name, 0, size=96)
    shape = phantom.image.array.shape[1:]
    assert phantom.masks
    for region in (*phantom.masks.values(), *phantom.regions.values()):
        assert region.shape == shape
        assert region.dtype == bool


@pytest.mark.parametrize("name", PHANTOMS)
def test_labels_are_known_without_building_a_patient(name: str) -> None:
    size = {"size": 96} if name in IMAGES else {}
    assert [label(name, seed) for seed in range(3)] == [getattr(make(name, s, **size), "label", None) for s in range(3)]


def test_an_unknown_phantom_is_named() -> None:
    with pytest.raises(UserError, match="no phantom 'head': choose one of thorax-ct"):
        make("head", 0)


def test_parts_of_a_phantom_are_images_on_its_grid() -> None:
    patient = make("brain-mr", 3, size=24, slices=5)
    assert part(patient, "image") is patient.image
    assert part(patient, "t1c") is patient.images["t1c"]
    assert part(patient, "healthy:t2") is patient.healthy["t2"]
    mask, labels = part(patient, "mask:lesion"), part(patient, "labels:tumour")
    assert mask.array.dtype == np.float32
    np.testing.assert_array_equal(mask.array[0], patient.masks["lesion"])
    assert labels.array.dtype == np.uint8
    np.testing.assert_array_equal(labels.array[0], patient.labels["tumour"])
    for derived in (mask, labels):
        np.testing.assert_array_equal(derived.affine, patient.image.affine)
        assert derived.unit is None


def test_masks_and_label_maps_lie_where_the_image_does_however_it_is_stored() -> None:
    affine = np.array([[0, 0, -0.7, 5], [0, 2.0, 0, -8], [3.0, 0, 0, 11], [0, 0, 0, 1]])
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    stored = SimpleNamespace(
        image=Image(values[None], affine, "HU"), masks={"high": values > 7}, labels={"parts": values.astype(np.uint8)}
    )
    for name in ("mask:high", "labels:parts"):
        np.testing.assert_array_equal(part(stored, name).affine, affine)


@pytest.mark.parametrize("name", ["t3", "mask:t1", "healthy:image", "labels:lesion", "pet:t1"])
def test_a_part_that_a_phantom_lacks_is_refused_with_those_that_it_has(name: str) -> None:
    patient = make("brain-mr", 0, size=16, slices=1)
    with pytest.raises(UserError, match=f"no part '{name}': choose one of image, t1, .*healthy:t1.*labels:tissue"):
        part(patient, name)


def test_vessels_are_parts_with_their_radii() -> None:
    patient = make("coronary-centrelines", 12)
    assert patient.label == "RCA"
    line = part(patient, "vessel")
    assert line.dtype == np.float64
    np.testing.assert_array_equal(line, np.column_stack([patient.vessel.points, patient.vessel.radii]))
    for number, vessel in enumerate(patient.vessels):
        np.testing.assert_array_equal(part(patient, f"vessel:{number}")[:, :3], vessel.points)
    np.testing.assert_array_equal(part(patient, "vessel:2"), line)
    with pytest.raises(UserError, match=r"no part 'image': choose one of vessel, vessel:0, .*vessel:9$"):
        part(patient, "image")


def test_seeds_are_patients_unless_a_phantom_gives_several_to_one() -> None:
    assert subject("brain-mr", 5) is None
    assert [subject("coronary-centrelines", seed) for seed in (0, 9, 10, 25)] == [0, 0, 1, 2]
    with pytest.raises(UserError, match="no phantom 'head'"):
        subject("head", 0)


class Rings:
    """Phantom from outside of the package: a class that takes a seed and the options of its task."""

    LABELS = ("thin", "thick")

    def __init__(self, seed: int, size: int = 8) -> None:
        self.image = Image.from_array(np.full((size, size + 1), seed, np.float32))


def test_a_phantom_from_outside_is_a_class() -> None:
    assert (called(Rings), label(Rings, 3), subject(Rings, 3)) == ("Rings", "thick", None)
    assert make(Rings, 4, size=6).image.shape == (1, 6, 7) and float(make(Rings, 4).image.numpy().mean()) == 4
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert source(Rings) == f"sha256:{digest}" and source("brain-mr") is None
    with pytest.raises(UserError, match=r"phantom Rings: cannot be drawn for this system: .*'slices'"):
        make(Rings, 0, slices=2)


def test_installed_packages_register_phantoms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "rings-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: rings\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[ganatomy.phantoms]\nrings = {__name__}:Rings\n")
    with pytest.raises(UserError, match="there is no phantom 'rings'"):
        make("rings", 0)
    monkeypatch.syspath_prepend(tmp_path)
    assert type(make("rings", 2)) is Rings and called("rings") == "rings" and source("rings") == source(Rings)
    with pytest.raises(UserError, match=r"no phantom 'ring': choose one of thorax-ct, .*, rings"):
        make("ring", 0)


def test_named_points_are_parts_in_mm() -> None:
    patient = make("spine-ct", 2, size=16)
    found = part(patient, "points:vertebrae")
    assert found is patient.points["vertebrae"] and set(found) <= set(patient.NAMES)
    with pytest.raises(UserError, match=r"no part 'points:ribs': choose one of image, ct, .*points:vertebrae"):
        part(patient, "points:ribs")
