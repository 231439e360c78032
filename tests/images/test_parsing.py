import errno
import gzip
import os
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ganatomy.errors import Shortage, UserError
from ganatomy.images import dicom
from ganatomy.images.files import find, read, write
from ganatomy.images.image import Image
from ganatomy.images.kspace import read_kspace
from ganatomy.images.npy import open_npz
from ganatomy.images.parsing import CEILING, FLOOR, check_size, exists, fault, parsing

VOLUME = Image.from_array(np.random.default_rng(0).integers(-999, 999, (5, 12, 10)).astype(np.int16), (2, 1, 1), "HU")
NAMES = ("a.nii", "a.nii.gz", "a.npy", "a.tif", "c.tif", "a.gif", "a.png", "a.jpg", "a.bmp", "k.npz", "k.h5", "series")


def make(folder, name):
    """Write a sound file or series of 5 slices (pictures: 1), and return its path."""
    path, pixels = folder / name, VOLUME.numpy()[0].astype(np.uint8)
    kspace = np.zeros((5, 2, 12, 10), np.complex64)
    kspace[..., 6, 5] = 9
    if name == "k.npz":
        np.savez(path, kspace=kspace)
    elif name == "k.h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file.create_dataset("kspace", data=kspace, compression="gzip")
    elif name in ("c.tif", "a.gif"):
        colours = np.stack([pixels, 255 - pixels, pixels // 2], axis=-1) // 50 * 50
        pages = [Pillow.fromarray(page) for page in (colours if name == "a.gif" else pixels)]
        pages[0].save(path, save_all=True, append_images=pages[1:])
    elif name in ("a.png", "a.jpg", "a.bmp"):
        Pillow.fromarray(pixels[0]).save(path)
    else:
        write(path, VOLUME)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_refused_by_name_or_read_whole(tmp_path, name):
    path = make(tmp_path, name)
    whole = read(path).shape
    victim = sorted(path.iterdir())[2] if path.is_dir() else path
    sound, random = victim.read_bytes(), np.random.default_rng(1)
    damages = [b"", sound[: len(sound) // 2], sound[:-1], sound[:140], b"\0" * len(sound), sound + sound[-7:]]
    for _ in range(25):
        flipped = bytearray(sound)
        for place in random.integers(0, len(sound), 3):
            flipped[place] = random.integers(256)
        start = int(random.integers(min(400, len(sound) - 8)))
        nasty = (2**31 - 1, -1, 0, 2**15 - 1)[random.integers(4)].to_bytes(8, "little", signed=True)
        damages += [bytes(flipped), sound[:start] + nasty[:4] + sound[start + 4 :]]
    for damage in damages:
        victim.write_bytes(damage)
        try:
            shapes = [(source, source.open()) for source in find(path)]
            [image.numpy() for _, image in shapes]
        except UserError as error:
            assert victim.name in str(error) or path.name in str(error)
            assert "\n" not in str(error)
        else:
            if name not in ("a.png", "a.jpg", "a.bmp", "a.gif"):  # which say in one place how large they are
                assert sum(image.shape[0] for _, image in shapes) >= whole[0]


def test_a_truncated_gif_is_refused(tmp_path):
    sound = make(tmp_path, "a.gif").read_bytes()
    assert read(tmp_path / "a.gif").array.shape == (3, 5, 12, 10)
    for length in range(1, len(sound), 29):
        (tmp_path / "a.gif").write_bytes(sound[:length])
        with pytest.raises(UserError, match=r"a\.gif"):
            read(tmp_path / "a.gif")


@pytest.mark.parametrize("name", NAMES)
def test_a_lack_of_files_is_not_booked_as_a_bad_file(tmp_path, name, monkeypatch):
    path = make(tmp_path, name)
    resource = pytest.importorskip("resource")
    read(path).numpy()  # what is imported later needs no file any more
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
        with pytest.raises(OSError, match="Too many"):
            while True:
                held.append(os.open(tmp_path, os.O_RDONLY))
        with pytest.raises(Shortage, match="too many open files"):
            read(path).numpy()
    finally:
        for number in held:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "short"), OSError(errno.EMFILE, "many")])
def test_shortages_pass_the_fence_as_such(error):
    with pytest.raises(Shortage), parsing(Path("x"), "NIfTI"):
        raise error


@pytest.mark.parametrize("error", [ValueError("first\nsecond"), KeyError("k"), RecursionError("deep"), EOFError()])
def test_whatever_a_parser_raises_becomes_one_line(error):
    with (
        pytest.raises(UserError, match=r"^x cannot be read as NIfTI \(.+\): copy") as caught,
        parsing(Path("x"), "NIfTI"),
    ):
        raise error
    assert not isinstance(caught.value, Shortage) and "second" not in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_interrupts_pass_the_fence(error):
    with pytest.raises(type(error)), parsing(Path("x"), "NIfTI"):
        raise error


@pytest.mark.parametrize(
    ("declared", "stored", "compressed", "fits"),
    [
        (100, 100, False, True),
        (101, 100, False, False),
        (FLOOR, 1, True, True),
        (FLOOR + 1, 1, True, False),
        (1000 * 10**6, 10**6, True, True),
        (1200 * 10**6, 10**6, True, False),
        (CEILING + 1, 10**7, True, False),
        (CEILING + 1, 10**8, True, True),
    ],
)
def test_no_file_declares_more_than_it_can_hold(declared, stored, compressed, fits):
    if fits:
        check_size(Path("x"), declared, stored, compressed=compressed)
    else:
        with pytest.raises(UserError, match="x "):
            check_size(Path("x"), declared, stored, compressed=compressed)


def test_what_holds_nothing_is_told(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "lost").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "full").write_text("x")
    told = {path.name: fault(path) for path in tmp_path.iterdir()}
    assert told.pop("full") is None
    for name, words in (("empty", "is empty"), ("lost", "link to a file"), ("pipe", "no regular file")):
        assert words in told[name]
    assert not exists(tmp_path / ("x" * 5000))


@pytest.mark.parametrize("count", ["1000000000", "-5", "90000"])
def test_a_number_of_frames_needs_its_pixels(tmp_path, slice_file, count):
    slice_file(tmp_path / "a.dcm", np.zeros((16, 16), np.uint16), NumberOfFrames=count)
    with pytest.raises(UserError, match=r"a\.dcm .*(impossible sizes|truncated)"):
        read(tmp_path / "a.dcm")


@pytest.mark.parametrize("head", [b"", b"\0" * 128 + b"DICM", b"\x08\0\x05\0" + b"\0" * 140])
def test_a_file_of_zeros_is_refused_at_once(tmp_path, head, monkeypatch):
    reads = []
    read_ = dicom.DicomStream.read
    monkeypatch.setattr(dicom.DicomStream, "read", lambda self, *size: reads.append(1) or read_(self, *size))
    (tmp_path / "a.dcm").write_bytes(head + bytes(1 << 20))
    with pytest.raises(UserError, match=r"a\.dcm (is filled with zeros|is not DICOM)"):
        read(tmp_path / "a.dcm")
    assert len(reads) < 200


def test_deflated_dicom_is_read_unless_it_inflates_without_end(tmp_path, slice_file):
    pixels = np.zeros((64, 64), np.uint16)
    slice_file(tmp_path / "a.dcm", pixels, syntax=DeflatedExplicitVRLittleEndian)
    assert (tmp_path / "a.dcm").stat().st_size < pixels.nbytes
    assert (read(tmp_path / "a.dcm").numpy() == -1024).all()
    sound = (tmp_path / "a.dcm").read_bytes()
    length = int.from_bytes(sound[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = b"".join([packer.compress(bytes(1 << 20)) for _ in range(80)]) + packer.flush()
    (tmp_path / "a.dcm").write_bytes(sound[: 144 + length] + packed)
    with pytest.raises(UserError, match=r"a\.dcm: its header declares"):
        read(tmp_path / "a.dcm")


def test_a_compressed_volume_declares_no_more_than_its_file_can_hold(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 3000))
    header["vox_offset"] = 352
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(4000)))
    with pytest.raises(UserError, match=r"a\.nii\.gz declares"):
        read(tmp_path / "a.nii.gz")
    nibabel.Nifti1Image(np.zeros((200, 200, 100), np.int16), np.eye(4)).to_filename(tmp_path / "b.nii.gz")
    assert not read(tmp_path / "b.nii.gz").numpy().any()


def archive_of(path, shape, entry=b"1234"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("kspace.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<c8", "fortran_order": False, "shape": shape})
        stream.write(entry)


def test_archives_of_arrays_declare_no_more_than_they_hold(tmp_path, monkeypatch):
    archive_of(tmp_path / "a.npz", (1, 1, 2**15, 2**15))
    with pytest.raises(UserError, match=r"a\.npz is truncated"):
        read_kspace(tmp_path / "a.npz")
    monkeypatch.setattr("ganatomy.images.parsing.FLOOR", 1000)
    archive_of(tmp_path / "b.npz", (1, 1, 2**10, 2**7), b"12345678" * 2**17)
    monkeypatch.setattr("ganatomy.images.parsing.FOLD", 10)
    with pytest.raises(UserError, match=r"b\.npz declares"):
        read_kspace(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", np.zeros(3))
    (tmp_path / "c.npy").rename(tmp_path / "c.npz")
    with pytest.raises(UserError, match=r"c\.npz cannot be read"):
        open_npz(tmp_path / "c.npz")


@pytest.mark.parametrize("kind", ["external", "soft", "storage", "virtual", "sparse", "chunk"])
def test_raw_data_lie_in_their_own_file(tmp_path, kind):
    h5py = pytest.importorskip("h5py")
    other = make(tmp_path, "k.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if kind == "external":
            file["kspace"] = h5py.ExternalLink(str(other), "kspace")
        elif kind == "soft":
            file["way"] = h5py.ExternalLink(str(other), "/")
            file["kspace"] = h5py.SoftLink("/way/kspace")
        elif kind == "storage":
            file.create_dataset("kspace", (1, 4, 4), np.complex64, external=[(str(other), 0, 128)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((5, 2, 12, 10), np.complex64)
            layout[:] = h5py.VirtualSource(str(other), "kspace", (5, 2, 12, 10))
            file.create_virtual_dataset("kspace", layout)
        elif kind == "sparse":
            file.create_dataset("kspace", (10**5, 10**4, 10**3), np.complex64, chunks=(1, 100, 100))
        else:
            file.create_dataset("kspace", (1, 4, 4), np.complex64, chunks=(1000, 300, 300), maxshape=(None,) * 3)
    with pytest.raises(UserError, match=r"a\.h5"):
        read_kspace(tmp_path / "a.h5")


def test_pictures_of_immense_size_are_refused(tmp_path, monkeypatch):
    Pillow.new("1", (300, 300)).save(tmp_path / "a.png")
    Pillow.new("L", (300, 300)).save(tmp_path / "a.tif", compression="tiff_adobe_deflate")
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 40_000)
    monkeypatch.setattr("ganatomy.images.parsing.FLOOR", 1000)
    monkeypatch.setattr("ganatomy.images.parsing.FOLD", 10)
    for name in ("a.png", "a.tif"):
        with pytest.raises(UserError, match=rf"{name} (cannot be read .* exceeds limit|declares)"):
            read(tmp_path / name)


def test_pictures_of_one_bit_are_larger_than_their_files(tmp_path):
    Pillow.new("1", (300, 300)).save(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif").shape == (1, 300, 300)


def test_a_tiff_reads_no_other_file(tmp_path):
    for number in range(2):
        tifffile.imwrite(tmp_path / f"{number}.ome.tif", np.full((6, 7), number, np.uint8), metadata={"axes": "YX"})
    text = tifffile.TiffFile(tmp_path / "0.ome.tif").ome_metadata
    assert text
    both = text.replace('SizeZ="1"', 'SizeZ="2"').replace(
        "</Pixels>",
        '<TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID FileName="1.ome.tif">urn:uuid:1</UUID></TiffData></Pixels>',
    )
    tifffile.tiffcomment(tmp_path / "0.ome.tif", both.encode())
    with pytest.raises(UserError, match=r"0\.ome\.tif: not all pages"):
        read(tmp_path / "0.ome.tif")


def test_a_tiff_of_pages_of_different_sizes_is_no_stack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for rows in (6, 6, 8):
            file.write(np.zeros((rows, 7), np.uint8), contiguous=False, metadata=None)
    with pytest.raises(UserError, match=r"a\.tif holds pages of different kinds"):
        read(tmp_path / "a.tif")
