import sys
from pathlib import Path

import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images.files import find, read
from ganatomy.images.kspace import read_kspace

ROWS, COLUMNS = 12, 10


def measured(*leading: int) -> np.ndarray:
    """Return k-space with its greatest sample in the middle."""
    rng = np.random.default_rng(0)
    parts = rng.standard_normal((2, *leading, ROWS, COLUMNS))
    values = (parts[0] + 1j * parts[1]).astype(np.complex64)
    values[..., ROWS // 2, COLUMNS // 2] = 50
    return values


HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>12</x><y>10</y><z>1</z></matrixSize>
<fieldOfView_mm><x>240</x><y>150</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>6</x><y>8</y><z>1</z></matrixSize>
<fieldOfView_mm><x>120</x><y>120</y><z>5</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>7</maximum><center>4</center>
</kspace_encoding_step_1></encodingLimits>
<trajectory>{trajectory}</trajectory></encoding></ismrmrdHeader>"""


@pytest.mark.parametrize(
    ("leading", "shape"), [((), (1, 1)), ((3,), (1, 3)), ((2, 3), (2, 3))], ids=["plane", "coils", "slices"]
)
def test_npy_of_two_to_four_axes(tmp_path: Path, leading: tuple[int, ...], shape: tuple[int, int]) -> None:
    values = measured(*leading)
    np.save(tmp_path / "scan.npy", values)
    kspace = read_kspace(tmp_path / "scan.npy")
    assert kspace.shape == (*shape, ROWS, COLUMNS) and kspace.spacing is None
    np.testing.assert_array_equal(kspace.numpy(), values.reshape(kspace.shape))
    assert kspace.slab(0, 1).dtype == np.complex64
    assert kspace.sampled(0, shape[0]).all()


def test_real_and_imaginary_parts_in_a_last_axis(tmp_path: Path) -> None:
    values = measured(3)
    np.save(tmp_path / "scan.npy", np.stack([values.real, values.imag], -1))
    np.testing.assert_array_equal(read_kspace(tmp_path / "scan.npy").numpy()[0], values)


def test_samples_that_are_zero_in_all_coils_were_not_measured(tmp_path: Path) -> None:
    values = measured(3)
    values[:, :, ::3] = 0
    values[1, 0, 1] = 0
    np.save(tmp_path / "scan.npy", values)
    expected = np.ones((1, ROWS, COLUMNS), bool)
    expected[..., ::3] = False
    np.testing.assert_array_equal(read_kspace(tmp_path / "scan.npy").sampled(0, 1), expected)


def test_npz_with_a_mask_of_columns(tmp_path: Path) -> None:
    columns = np.arange(COLUMNS) % 2 == 0
    np.savez(tmp_path / "scan.npz", kspace=measured(3), mask=columns, other=np.zeros(3))
    kspace = read_kspace(tmp_path / "scan.npz")
    np.testing.assert_array_equal(kspace.sampled(0, 1)[0], np.tile(columns, (ROWS, 1)))
    np.savez(tmp_path / "alone.npz", measured(3))
    assert read_kspace(tmp_path / "alone.npz").shape == (1, 3, ROWS, COLUMNS)
    np.savez(tmp_path / "two.npz", a=measured(3), b=measured(3))
    with pytest.raises(UserError, match=r"holds a, b"):
        read_kspace(tmp_path / "two.npz")


def test_a_zero_frequency_in_the_corner_is_noticed_and_moved(tmp_path: Path) -> None:
    values = measured(2)
    np.savez(tmp_path / "scan.npz", kspace=np.fft.ifftshift(values, (-2, -1)), mask=np.arange(COLUMNS) == 0)
    with pytest.raises(UserError, match="centred=False"):
        read_kspace(tmp_path / "scan.npz")
    kspace = read_kspace(tmp_path / "scan.npz", centred=False)
    np.testing.assert_array_equal(kspace.numpy()[0], values)
    assert kspace.sampled(0, 1)[0, 0].argmax() == COLUMNS // 2


@pytest.mark.parametrize("coils", [None, 3])
def test_fastmri(tmp_path: Path, coils: int | None) -> None:
    h5py = pytest.importorskip("h5py")
    values = measured(*((2,) if coils is None else (2, coils)))
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["kspace"] = values
        file["mask"] = np.arange(COLUMNS) % 2
        file["ismrmrd_header"] = HEADER.format(trajectory="cartesian")
    kspace = read_kspace(tmp_path / "scan.h5")
    assert kspace.shape == (2, coils or 1, ROWS, COLUMNS)
    np.testing.assert_array_equal(kspace.slab(1, 2)[0], values[1].reshape(kspace.shape[1:]))
    assert kspace.spacing == (5, 20, 15) and kspace.field == (6, 8)
    assert kspace.sampled(0, 2).shape == (2, ROWS, COLUMNS)
    assert kspace.sampled(0, 2)[1, 5].tolist() == [False, True] * 5


def write_ismrmrd(path: Path, lines: list[tuple[int, int, int, np.ndarray]], trajectory: str = "cartesian") -> None:
    """Write acquisitions given as (flags, slice, phase encoding step, (coils, samples))."""
    h5py = pytest.importorskip("h5py")
    counters = ("kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast", "phase", "repetition")
    index = np.dtype([(name, "<u2") for name in (*counters, "set", "segment")])
    numbers = ("number_of_samples", "active_channels", "discard_pre", "discard_post", "center_sample")
    head = np.dtype([("flags", "<u8"), *((name, "<u2") for name in numbers), ("idx", index)])
    kind = np.dtype([("head", head), ("data", h5py.vlen_dtype(np.float32))])
    stored = np.zeros(len(lines), kind)
    for place, (flags, slice_, step, line) in enumerate(lines):
        stored[place]["head"]["flags"] = flags
        stored[place]["head"]["number_of_samples"] = line.shape[1]
        stored[place]["head"]["active_channels"] = len(line)
        stored[place]["head"]["center_sample"] = line.shape[1] // 2
        stored[place]["head"]["idx"]["slice"] = slice_
        stored[place]["head"]["idx"]["kspace_encode_step_1"] = step
        stored[place]["data"] = np.ascontiguousarray(line).view(np.float32).ravel()
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = np.array([HEADER.format(trajectory=trajectory).encode()], dtype=object).astype("S")
        file.create_dataset("dataset/data", data=stored, dtype=kind)


def test_ismrmrd(tmp_path: Path) -> None:
    values = measured(2, 3)
    noise = 1 << 18
    lines = [(noise, 0, 0, 1000 * values[0, :, :, 0])]
    for number in (1, 0):
        lines += [(0, number, step, values[number, :, :, step + 1]) for step in range(8)]
    backwards = values[0, :, ::-1, 5]
    lines.append((1 << 21, 0, 4, backwards))
    write_ismrmrd(tmp_path / "scan.mrd", lines)
    kspace = read_kspace(tmp_path / "scan.mrd")
    expected = values.copy()
    expected[..., 0] = expected[..., 9] = 0
    assert kspace.shape == values.shape and kspace.spacing == (5, 20, 15)
    np.testing.assert_allclose(kspace.slab(1, 2)[0], expected[1], rtol=1e-6)
    np.testing.assert_allclose(kspace.numpy()[0], expected[0], rtol=1e-6)
    assert kspace.sampled(0, 1)[0].any(0).tolist() == [False, *[True] * 8, False]


def test_raw_data_open_as_images_of_their_kind(tmp_path: Path) -> None:
    values = measured(2, 3)
    np.save(tmp_path / "scan.npy", values)
    np.save(tmp_path / "image.npy", np.abs(values[:, 0]))
    assert [source.kind for source in find(tmp_path)] == ["npy", "kspace"]
    image = read(tmp_path / "scan.npy")
    assert image.header.kind == "kspace" and image.header.modality == "MR" and image.unit == "a.u."
    assert image.array.shape == (6, 2, ROWS, COLUMNS)
    np.testing.assert_array_equal(image.slab(1, 2)[2, 0] + 1j * image.slab(1, 2)[3, 0], values[1, 1])


def test_an_oversampled_readout_is_cut_to_what_is_shown(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    true = np.zeros((1, ROWS, COLUMNS), np.complex64)
    true[:, 3:9] = rng.standard_normal((1, 6, COLUMNS)) + 3
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(true, (1, 2)), norm="ortho"), (1, 2))
    kspace[..., ::3] = 0
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["kspace"] = kspace.astype(np.complex64)
        file["ismrmrd_header"] = HEADER.format(trajectory="cartesian").encode()
    image = read(tmp_path / "scan.h5")
    assert image.shape == (1, 6, COLUMNS) and image.spacing == pytest.approx((5, 20, 15))
    found = image.numpy()[0, 0] + 1j * image.numpy()[1, 0]
    assert not found[:, ::3].any() and found[:, 1::3].all()
    cut = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(true[0, 3:9]), norm="ortho"))
    np.testing.assert_allclose(found[:, 1::3], cut[:, 1::3], atol=1e-5)


def test_a_short_readout_is_placed_by_its_middle(tmp_path: Path) -> None:
    values = measured(3)
    write_ismrmrd(tmp_path / "scan.mrd", [(0, 0, step, values[:, 3:9, step + 1]) for step in range(8)])
    expected = np.zeros_like(values)
    expected[:, 3:9, 1:9] = values[:, 3:9, 1:9]
    np.testing.assert_array_equal(read_kspace(tmp_path / "scan.mrd").numpy()[0], expected)


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    write_ismrmrd(tmp_path / "radial.mrd", [(0, 0, 0, measured(1)[:, :, 0])], trajectory="radial")
    with pytest.raises(UserError, match="radial scan"):
        read_kspace(tmp_path / "radial.mrd")
    write_ismrmrd(tmp_path / "noise.mrd", [(1 << 18, 0, 0, measured(1)[:, :, 0])])
    with pytest.raises(UserError, match="no measurement"):
        read_kspace(tmp_path / "noise.mrd")
    write_ismrmrd(tmp_path / "far.mrd", [(0, 0, 40, measured(1)[:, :, 0])])
    with pytest.raises(UserError, match="outside"):
        read_kspace(tmp_path / "far.mrd")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["picture"] = np.zeros(3)
    with pytest.raises(UserError, match="holds picture"):
        read_kspace(tmp_path / "other.h5")


@pytest.mark.parametrize("name", ["scan.npy", "scan.npz", "scan.h5"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not raw data at all")
    with pytest.raises(UserError, match=name):
        read_kspace(tmp_path / name)


def test_unusable_arrays_and_paths_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "real.npy", np.zeros((4, 5)))
    with pytest.raises(UserError, match="complex"):
        read_kspace(tmp_path / "real.npy")
    np.savez(tmp_path / "mask.npz", kspace=measured(2), mask=np.ones(3))
    with pytest.raises(UserError, match="mask has shape"):
        read_kspace(tmp_path / "mask.npz")
    broken = measured(2)
    broken[0, 0, 0] = np.nan
    np.save(tmp_path / "nan.npy", broken)
    with pytest.raises(UserError, match="not finite"):
        read_kspace(tmp_path / "nan.npy")
    with pytest.raises(UserError, match="does not exist"):
        read_kspace(tmp_path / "none.npy")
    (tmp_path / "scan.txt").touch()
    with pytest.raises(UserError, match="no raw data"):
        read_kspace(tmp_path / "scan.txt")


def test_without_h5py_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scan.h5").touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match="pip install h5py"):
        read_kspace(tmp_path / "scan.h5")


def test_a_real_scan(shared) -> None:
    kspace = read_kspace(shared / "recon-mr-volumes/kspace/sigpy_cartesian_ksp.npy")
    assert kspace.shape == (1, 8, 230, 180)
    assert kspace.sampled(0, 1).mean() == pytest.approx(0.1243, abs=1e-4)
