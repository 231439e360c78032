import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.case import slab
from ganatomy.data.batches import datasets, usable
from ganatomy.data.cases import DataConfig, discover
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.game import Stream
from ganatomy.images.files import write
from ganatomy.images.frames import Frame
from ganatomy.images.image import Image
from ganatomy.phantoms.endomicroscopy import EndomicroscopyMosaic
from ganatomy.physics.fibre import FibreBundle, cell_means
from ganatomy.tasks.endomicroscopy.task import (
    CONSISTENCY,
    CONTRAST_LOW,
    CONTRAST_TRUE,
    MOST_FIBRES,
    FibreConfig,
    FibreSuperResolution,
    cell_means_as_image,
    fibre_error,
)
from ganatomy.tasks.restoration.likeness import PSNR, SSIM

STREAMS = {"frames": ("low", "signal", "cells"), "sharp": ("high",)}
PHANTOM = EndomicroscopyMosaic(3, size=64, slices=2)


def task(**values):
    return FibreSuperResolution(FibreConfig(**values), SSIM)


def prepared(given, own=None, seed=0):
    own = own or task()
    return {role: np.array(array) for role, array in own.simulate(own.frame(given), seed).arrays.items()}


def sample(arrays):
    return {role: values[0] for role, values in arrays.items()}


@pytest.fixture(scope="module")
def simulated():
    return prepared({"true": PHANTOM.image, "high": PHANTOM.images["elsewhere"]})


def test_an_image_is_seen_through_a_bundle_of_its_own(simulated):
    low, signal, cells = (simulated[role] for role in ("low", "signal", "cells"))
    inside = cells >= 0
    assert inside.mean() == pytest.approx(np.pi / 4, abs=0.03)
    for role in ("low", "signal", "true"):
        assert (simulated[role][~inside] == 0).all() and simulated[role][inside].min() > 0
    assert np.array_equal(simulated["true"][inside], PHANTOM.image.numpy()[inside])
    assert np.array_equal(simulated["high"], PHANTOM.images["elsewhere"].numpy())
    for number in np.unique(cells)[1::50]:
        assert np.ptp(signal[0, 0][cells[0, 0] == number]) == 0
    correlation = [np.corrcoef(image[inside], simulated["true"][inside])[0, 1] for image in (low, signal)]
    assert min(correlation) > 0.7
    other = prepared({"true": PHANTOM.image}, seed=1)
    assert (other["cells"] != cells).any(), "every case has a bundle of its own"


def test_slices_are_the_same_whatever_is_read_with_them(simulated):
    arrays = task().simulate(task().frame({"true": PHANTOM.image}), 0).arrays
    for role in ("low", "signal", "cells", "true"):
        np.testing.assert_array_equal(slab(arrays[role], 1, 2), simulated[role][:, 1:2])
    assert (simulated["low"][:, 0] != simulated["low"][:, 1]).any()


def test_black_is_the_lower_end_of_the_window():
    moved = PHANTOM.image.with_array(PHANTOM.image.numpy() + 100)
    found = prepared({"true": moved}, task(window=(100.0, 355.0)))
    want = prepared({"true": PHANTOM.image})
    for role in ("low", "signal", "true"):
        np.testing.assert_allclose(found[role], want[role] + 100, atol=1e-3)


def test_images_alone_are_the_high_quality_ones_too():
    found = prepared({"true": PHANTOM.image})
    assert np.array_equal(found["high"], PHANTOM.image.numpy())
    assert list(prepared({"high": PHANTOM.image})) == ["high"]


def test_recorded_frames_keep_their_fibres(simulated):
    low, cells, signal = (PHANTOM.image.with_array(simulated[role]) for role in ("low", "cells", "signal"))
    found = prepared({"low": low, "cells": cells, "signal": signal})
    assert list(found) == ["low", "signal", "cells"]
    assert all(np.array_equal(found[role], simulated[role]) for role in found)
    means = prepared({"low": low, "cells": cells})["signal"]
    numbers = torch.from_numpy(simulated["cells"]).transpose(0, 1)
    count = int(numbers.max()) + 1
    ours, theirs = (
        cell_means(torch.from_numpy(values).transpose(0, 1), numbers, count)[0] for values in (means, simulated["low"])
    )
    torch.testing.assert_close(ours, theirs)
    assert fibre_error(simulated["low"][0], sample({**simulated, "signal": means})) == pytest.approx(0, abs=1e-5)


def test_frames_without_fibres_get_those_of_some_bundle(simulated):
    low = PHANTOM.image.with_array(simulated["low"])
    own = task(bundle=FibreBundle(pitch=6.0))
    found = prepared({"low": low}, own, seed=4)
    want = FibreBundle(pitch=6.0).fibres((64, 64), 4).cells.numpy()
    assert np.array_equal(found["cells"][0, 1], want) and np.array_equal(found["low"], simulated["low"])


@pytest.mark.parametrize(
    ("given_roles", "told"),
    [
        ({"cells": PHANTOM.image, "high": PHANTOM.image}, "cells without the frame"),
        ({"low": PHANTOM.image, "high": EndomicroscopyMosaic(0, size=32, slices=2).image}, "as different cases"),
        ({"true": Image.from_array(np.repeat(PHANTOM.image.numpy(), 3, 0))}, "3 channels"),
        ({"low": PHANTOM.image.with_array(900 * PHANTOM.image.numpy())}, "--window"),
        ({"low": PHANTOM.image, "cells": PHANTOM.image}, "whole numbers below 65536"),
        ({"low": PHANTOM.image, "cells": PHANTOM.image.with_array(np.full((1, 2, 64, 64), 65536))}, "whole numbers"),
    ],
)
def test_what_cannot_be_is_refused(given_roles, told):
    with pytest.raises(UserError, match=told):
        prepared(given_roles)


def test_numbers_of_cells_survive_their_codec():
    numbers = torch.arange(-1, MOST_FIBRES, 7, dtype=torch.float32)
    shown = task().codecs["cells"].encode(numbers)
    assert shown.max() < 1 and torch.equal((shown * MOST_FIBRES).round(), numbers)


def test_mean_and_sd_of_frames_become_zero_and_one():
    codec = task(mean=120.0, sd=40.0).codecs["low"]
    assert codec.encode(np.float32([80, 120, 160])).tolist() == pytest.approx([-1, 0, 1], abs=1e-6)
    assert task().codecs["high"] == task().codecs["low"]


def test_the_true_image_is_best_and_what_the_fibres_saw_agrees_with_them(simulated):
    given = sample(simulated)
    spacing = (1.0, 1.0, 1.0)
    true, low, signal = (task().scores({"true": given[role]}, given, spacing) for role in ("true", "low", "signal"))
    assert true[SSIM] == pytest.approx(1) and true[CONTRAST_TRUE] == 0 and true[CONTRAST_LOW] > 1
    assert low[SSIM] < 0.8 and low[CONTRAST_LOW] == 0 and low[CONTRAST_TRUE] == pytest.approx(-true[CONTRAST_LOW])
    assert signal[CONSISTENCY] == pytest.approx(0, abs=1e-6) and low[CONSISTENCY] > 0.1
    blind = {role: values for role, values in given.items() if role != "true"}
    found = task().scores({"true": given["low"]}, blind, spacing)
    assert PSNR not in found and found[CONSISTENCY] == low[CONSISTENCY]


def test_what_lies_at_the_edge_of_the_field_is_not_scored(simulated):
    given = sample(simulated)
    disturbed = given["true"].copy()
    disturbed[:, :9] = 255
    assert task().scores({"true": disturbed}, given, (1.0, 1.0, 1.0))[SSIM] == pytest.approx(1)
    inner = task().inner(given["cells"])
    assert (inner >= 0).all() and inner.shape == (2, 44, 44)
    assert task(bundle=FibreBundle(circular=False)).inner(disturbed) is disturbed


def test_a_frame_is_taken_as_it_is_stored():
    low = PHANTOM.image
    turned = Frame.plan(low, "sagittal").into(low)
    sample = task().frame({"low": turned})
    assert sample.frames["low"].identity and np.array_equal(np.array(sample.arrays["low"]), turned.numpy())
    assert task().label_maps == ("cells",), "numbers of cells are not interpolated"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_painting_twice_changes_nothing(seed):
    draw = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 1, 6, 7, generator=draw)
    cells = torch.randint(-1, 5, (2, 1, 6, 7), generator=draw).float()
    once = cell_means_as_image(image, cells)
    torch.testing.assert_close(cell_means_as_image(once, cells), once)
    assert torch.equal(once[cells < 0], image[cells < 0])
    assert once.mean().item() == pytest.approx(image.mean().item(), abs=1e-5)


def test_other_places_of_the_same_person_are_other_ones():
    elsewhere = PHANTOM.images["elsewhere"].numpy()
    assert elsewhere.shape == PHANTOM.image.array.shape
    assert abs(np.corrcoef(elsewhere.ravel(), PHANTOM.image.numpy().ravel())[0, 1]) < 0.3


def pictures(folder, *names):
    picture = Image.from_array(PHANTOM.image.numpy()[:, :1].astype(np.uint8))
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, picture)


@pytest.mark.parametrize("manifest", [False, True])
def test_frames_and_good_images_come_from_different_cases(tmp_path, manifest):
    folder = tmp_path / "data"
    pictures(folder, "low/a.png", "high/b.png")
    if manifest:
        (folder / "index.csv").write_text("subject,low,high\n1,low/a.png,\n2,,high/b.png\n")
    cases = discover(task(), DataConfig(data=folder), 0)
    assert sorted(tuple(case.sources) for case in cases) == [("high",), ("low",)]
    store = Store(task(), tmp_path / "cache")
    ranges = usable(task(), [store.get(case) for case in cases])
    streams = [Stream(name, roles, 2, (1, 32, 32)) for name, roles in STREAMS.items()]
    found = datasets(ranges, streams, task().required, 2, [0])
    for name, roles in STREAMS.items():
        patch = found[name][0]
        assert {role: tuple(values.shape) for role, values in patch.items()} == dict.fromkeys(roles, (1, 32, 32))
    assert set(task().required) == {role for roles in STREAMS.values() for role in roles}


def test_a_plain_folder_holds_sharp_images(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    assert {tuple(case.sources) for case in discover(task(), DataConfig(data=tmp_path), 0)} == {("true",)}
