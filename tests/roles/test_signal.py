from typing import ClassVar

import numpy as np
import pytest
import torch

from ganatomy.case import Preparation, Sample, Task
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window, ZScore
from ganatomy.images.image import Image
from ganatomy.roles.signal import Signal, SignalRole, as_signal, read_signal

VESSEL = SignalRole("vessel", Window(low=0, high=4, unit="mm"), names=("x", "y", "radius"))


def wave(samples=20, step=0.5):
    time = np.linspace(0, 3, samples)
    return Signal(np.stack([np.sin(time), np.cos(time), 2 + time]), step, ("x", "y", "radius"))


def framed(value, preparation=None):
    frame = VESSEL.plan(value, preparation or Preparation(plane="sagittal", spacing=(1, 1, 1), size=(64, 64)))
    return VESSEL.array(value, frame), frame


def test_signals_come_back_as_they_were():
    signal = wave()
    array, frame = framed(signal)
    assert array.shape == (3, 1, 1, 20) and frame.identity
    np.testing.assert_allclose(np.linalg.norm(frame.working_affine[:3, :3], axis=0), [1, 1, 0.5])
    back = VESSEL.value(array, frame, signal)
    np.testing.assert_array_equal(back.values, signal.values)
    assert (back.step, back.names) == (0.5, signal.names)


@pytest.mark.parametrize(
    ("preparation", "samples", "step"),
    [
        (Preparation(size=(40,)), 40, 0.25),
        (Preparation(size=(16,), spacing=(9, 9, 1.0)), 16, 1.0),
        (Preparation(size=(16,), spacing=(9, 9, 1.0), fit="patches"), 10, 1.0),
    ],
)
def test_signals_are_brought_to_a_length_of_one_number(preparation, samples, step):
    signal = wave()
    array, frame = framed(signal, preparation)
    assert array.shape == (3, 1, 1, samples)
    assert np.linalg.norm(frame.working_affine[:3, 2]) == pytest.approx(step)
    back = VESSEL.value(array, frame, signal)
    assert back.values.shape == (3, 20)
    np.testing.assert_allclose(back.values[:, 4:-4], signal.values[:, 4:-4], atol=0.08)


class Vessels(Task):
    """Task of signals along one set of centre-lines."""

    name, given, phantom = "vessels", "vessel", "none"
    predictors, judge, selection = {}, None, "error"
    directions: ClassVar = {"error": "lower"}
    roles: ClassVar = {"vessel": VESSEL, "pressure": SignalRole("pressure")}

    def phantom_grid(self, size):
        return {}

    def scores(self, output, sample, spacing):
        return {}


def test_a_case_of_signals_has_a_grid_of_one_slice_and_one_row():
    task = Vessels()
    sample = task.frame({"vessel": wave(), "pressure": Signal(np.arange(20.0)[None], 0.5)})
    assert isinstance(sample, Sample)
    assert sample.shape == (1, 1, 20) and sample.spacing_of("vessel") == (1, 1, 0.5)
    with pytest.raises(UserError, match=r"up to 9\.5 mm apart"):
        task.frame({"vessel": wave(), "pressure": np.arange(20.0)})
    with pytest.raises(UserError, match="1 x 1 x 19 voxels against 1 x 1 x 20"):
        task.frame({"vessel": wave(), "pressure": np.arange(19.0)})


def test_patches_are_cut_mirrored_and_encoded_for_networks_of_one_dimension():
    array, _ = framed(wave())
    patch = VESSEL.cut(array, (0, 0, -2), (1, 1, 8))
    np.testing.assert_array_equal(patch[:, 0, 0], wave().values[:, [2, 1, 0, 1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(VESSEL.flip(patch, (2,)), patch[..., ::-1])
    np.testing.assert_array_equal(VESSEL.flip(VESSEL.flip(patch, (2,)), (2,)), patch)
    tensor = VESSEL.tensor(patch, 1)
    assert tensor.shape == (3, 8) and tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor, patch[:, 0, 0] / 2 - 1, atol=1e-6)
    np.testing.assert_allclose(VESSEL.decoded(tensor.numpy()), patch[:, 0, 0], atol=1e-6)
    np.testing.assert_allclose(VESSEL.encoded(array)[:, 0, 0], wave().values / 2 - 1, atol=1e-6)
    assert VESSEL.example((8,), None).shape == (3, 8) and VESSEL.channels == 3
    with pytest.raises(ValueError, match="no quarter turns"):
        VESSEL.quarter_turns(patch, 1)


def test_a_scale_of_its_own_is_bound_to_each_signal():
    role = SignalRole("ecg", ZScore())
    assert role.adaptive
    values = np.arange(10.0)
    bound = role.bind(values)
    assert (bound.scale.mean, bound.scale.std) == (4.5, pytest.approx(values.std()))
    assert role.with_numbers(bound.numbers()) == bound and bound.describe()["names"] == ["signal"]


@pytest.mark.parametrize("shape", [(7,), (1, 7), (3, 7), (3, 1, 1, 7), (1, 1, 1, 7)])
def test_arrays_and_images_of_one_row_are_signals(shape):
    values = np.arange(np.prod(shape)).reshape(shape)
    for value in (values, Image.from_array(values.reshape(-1, 7), (1.0, 1.0, 0.25))):
        np.testing.assert_array_equal(as_signal(value).values, values.reshape(-1, 7))
    assert as_signal(Image.from_array(values.reshape(-1, 7), (1.0, 1.0, 0.25))).step == 0.25


@pytest.mark.parametrize("value", [np.zeros((2, 3, 7)), np.zeros((2, 2, 1, 7)), Image.from_array(np.zeros((2, 3, 7)))])
def test_volumes_are_no_signals(value):
    with pytest.raises(UserError, match=r"a signal is \(channels, samples\)"):
        as_signal(value)


def test_other_channels_and_numbers_are_refused():
    with pytest.raises(UserError, match="2 channels, but vessel has x, y, radius"):
        VESSEL.check(np.zeros((2, 9)))
    with pytest.raises(UserError, match="not finite"):
        VESSEL.check(np.full((3, 9), np.inf))
    VESSEL.check(wave())


def test_tables_have_a_column_a_channel(tmp_path):
    VESSEL.write(tmp_path / "a.csv", wave())
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "x,y,radius"
    again = VESSEL.source("a.csv", tmp_path, lambda path: pytest.fail()).open()
    np.testing.assert_array_equal(again.values, wave().values)
    (tmp_path / "b.csv").write_text("time,Radius,y,x\n0,3,2,1\n1,6,5,4\n")
    np.testing.assert_array_equal(read_signal(tmp_path / "b.csv", VESSEL.names).values, [[1, 4], [2, 5], [3, 6]])
    (tmp_path / "c.csv").write_text("1;2;3\n4;5;6\n")
    np.testing.assert_array_equal(read_signal(tmp_path / "c.csv", VESSEL.names).values, [[1, 4], [2, 5], [3, 6]])


def test_archives_hold_the_signal_or_its_channels(tmp_path):
    VESSEL.write(tmp_path / "a.npz", wave())
    again = VESSEL.source("a.npz", tmp_path, lambda path: pytest.fail()).open()
    np.testing.assert_array_equal(again.values, wave().values)
    assert again.step == 0.5
    x, y, radius = wave().values
    np.savez(tmp_path / "b.npz", radius=radius, y=y, x=x)
    np.testing.assert_array_equal(read_signal(tmp_path / "b.npz", VESSEL.names).values, wave().values)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "x,y\n1,2\n", "no radius"),
        ("a.csv", "1,2\n1,2\n", "2 columns for 3 channels"),
        ("a.csv", "x,y,radius\n", "holds no samples"),
        ("a.csv", "x,y,radius\n1,2,3\n1,2\n", "sample 2, radius: '' is not a number"),
        ("a.csv", "x,y,radius\n1,nan,3\n", "sample 1, y: 'nan' is not a number"),
        ("a.npz", {"signal": np.zeros((2, 5))}, "2 channels for x, y, radius"),
        ("a.npz", {"signal": np.zeros((3, 2, 5))}, r"shape \(3, 2, 5\)"),
        ("a.npz", {"x": np.zeros(5), "y": np.zeros(5)}, "needs signal, or radius"),
        ("a.npz", {"x": np.zeros(5), "y": np.zeros(5), "radius": np.zeros(4)}, "do not all have the shape"),
        ("a.npz", {"signal": np.zeros((3, 5)), "step": 0.0}, "step between samples must be positive"),
        ("a.npz", "text", "cannot be read as arrays"),
        ("a.wav", "", r"cannot read \.wav; give \.csv or \.npz"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, words):
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    else:
        np.savez(tmp_path / name, **content)
    with pytest.raises(UserError, match=words):
        VESSEL.source(name, tmp_path, lambda path: pytest.fail()).open()
