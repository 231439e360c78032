import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from ganatomy.errors import UserError
from ganatomy.images.files import read, write
from ganatomy.images.image import ComputedArray, Image, RasterMeaning

AS_HU = RasterMeaning(slope=1, intercept=-1024, unit="HU", pixel_mm=0.75)


def noise(shape, dtype):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def png_with_every_filter(path, pixels):
    """Encode (rows, columns, channels) independently of the writer, with all five filters of PNG in turn."""
    rows, columns, channels = pixels.shape
    size = pixels.dtype.itemsize
    lines = np.frombuffer(pixels.astype(pixels.dtype.newbyteorder(">")).tobytes(), np.uint8).reshape(rows, -1)
    body = b""
    for row in range(rows):
        line = lines[row].astype(int)
        above = lines[row - 1].astype(int) if row else np.zeros_like(line)
        left, corner = (np.r_[np.zeros(channels * size, int), x[: -channels * size]] for x in (line, above))
        distances = np.abs(np.stack([above - corner, left - corner, left + above - 2 * corner]))
        paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
        guess = [0 * line, left, above, (left + above) // 2, paeth][row % 5]
        body += bytes([row % 5]) + ((line - guess) % 256).astype(np.uint8).tobytes()
    head = struct.pack(">IIBBBBB", columns, rows, size * 8, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(body)), (b"IEND", b"")
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    )


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_of_any_depth_is_read_bit_for_bit(tmp_path, channels, dtype):
    pixels = noise((11, 7, channels), dtype)
    png_with_every_filter(tmp_path / "a.png", pixels)
    image = read(tmp_path / "a.png")
    assert image.dtype == dtype
    assert image.unit is None
    np.testing.assert_array_equal(image.numpy()[:, 0], np.moveaxis(pixels, -1, 0))


def test_16_bit_grey_with_alpha_is_refused_rather_than_cut(tmp_path):
    png_with_every_filter(tmp_path / "a.png", noise((4, 4, 2), np.uint16))
    with pytest.raises(UserError, match="lose bits"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_round_trip_is_exact(tmp_path, suffix, channels, dtype):
    array = noise((channels, 1, 9, 6), dtype)
    write(tmp_path / f"a{suffix}", Image.from_array(array))
    back = read(tmp_path / f"a{suffix}")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.numpy(), array)


def test_pillow_reads_what_is_written(tmp_path):
    array = noise((3, 1, 9, 6), np.uint8)
    write(tmp_path / "a.png", Image.from_array(array))
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "a.png")), np.moveaxis(array[:, 0], 0, -1))


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint16])
def test_tiff_pages_are_slices(tmp_path, dtype):
    array = (noise((3, 9, 6), np.uint16).astype(np.int32) - 1024).astype(dtype)
    write(tmp_path / "a.tif", Image.from_array(array))
    back = read(tmp_path / "a.tif")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.numpy()[0], array)


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("ZCYX", (4, 2, 5, 6), (2, 4, 5, 6)),
        ("CYX", (3, 5, 6), (3, 1, 5, 6)),
        ("TZYX", (2, 3, 5, 6), (1, 6, 5, 6)),
    ],
)
def test_tiff_axes_are_understood(tmp_path, axes, shape, expected):
    pixels = noise(shape, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": axes})
    array = read(tmp_path / "a.tif").numpy()
    assert array.shape == expected
    wanted = pixels.swapaxes(0, 1) if axes == "ZCYX" else pixels.reshape(expected)
    np.testing.assert_array_equal(array, wanted)


def test_white_is_zero_tiffs_are_turned(tmp_path):
    pixels = noise((5, 6), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").numpy()[0, 0], 255 - pixels)


def test_lzw_tiffs_are_read_where_no_bit_is_lost(tmp_path):
    pixels = noise((5, 6), np.uint16)
    Pillow.fromarray(pixels).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").numpy()[0, 0], pixels)


def test_palettes_become_grey_or_colour(tmp_path):
    indices = Pillow.fromarray(np.array([[0, 1]], np.uint8), "P")
    for name, palette, channels in (("grey", [9, 9, 9, 200, 200, 200], 1), ("red", [255, 0, 0, 9, 9, 9], 3)):
        indices.putpalette(palette)
        indices.save(tmp_path / f"{name}.png")
        image = read(tmp_path / f"{name}.png")
        assert image.channels == channels
        assert image.numpy()[0].ravel().tolist() == [palette[0], palette[3]]


def test_only_real_transparency_is_a_channel(tmp_path):
    opaque = np.concatenate([noise((4, 4, 3), np.uint8), np.full((4, 4, 1), 255, np.uint8)], axis=-1)
    Pillow.fromarray(opaque).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").channels == 3


def test_bilevel_and_jpeg(tmp_path):
    Pillow.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "a.png")
    assert set(np.unique(read(tmp_path / "a.png").numpy())) == {0, 255}
    Pillow.fromarray(np.full((8, 8), 77, np.uint8)).save(tmp_path / "b.jpg")
    grey = read(tmp_path / "b.jpg")
    assert grey.channels == 1
    assert np.abs(grey.numpy().astype(int) - 77).max() <= 1


def test_meaning_makes_hu_and_writing_undoes_it(tmp_path):
    stored = noise((5, 6), np.uint16) % 4096
    Pillow.fromarray(stored.astype(np.uint16)).save(tmp_path / "a.png")
    image = read(tmp_path / "a.png", meaning=AS_HU)
    assert (image.dtype, image.unit, image.spacing) == (np.dtype(np.int16), "HU", (1.0, 0.75, 0.75))
    np.testing.assert_array_equal(image.numpy()[0, 0], stored.astype(int) - 1024)
    for suffix in (".png", ".tif"):
        write(tmp_path / f"b{suffix}", image.with_array(image.numpy()))
        np.testing.assert_array_equal(read(tmp_path / f"b{suffix}").numpy()[0, 0], stored)
    write(tmp_path / "c.png", image.with_array(image.numpy().astype(np.float32) + 0.3))
    np.testing.assert_array_equal(read(tmp_path / "c.png").numpy()[0, 0], stored)


def test_real_meanings_become_float32_and_come_back(tmp_path):
    stored = noise((5, 6), np.uint8)
    Pillow.fromarray(stored).save(tmp_path / "a.png")
    image = read(tmp_path / "a.png", meaning=RasterMeaning(slope=1 / 255))
    assert image.dtype == np.float32
    write(tmp_path / "b.png", image)
    back = read(tmp_path / "b.png")
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back.numpy()[0, 0], stored)


@pytest.mark.parametrize(
    ("array", "meaning", "words"),
    [
        (np.array([[-1, 5]], np.int16), None, "-1 to 5 do not fit 16-bit"),
        (np.zeros((2, 2), np.float32), None, "holds no real numbers"),
        (np.zeros((2, 2, 2), np.uint8), None, "1 slice"),
        (np.array([[3, 5]], np.int16), RasterMeaning(slope=2), "would round"),
        (np.array([[np.nan, 0]], np.float32), RasterMeaning(), "do not fit"),
    ],
)
def test_png_refuses_what_it_would_change(tmp_path, array, meaning, words):
    with pytest.raises(UserError, match=words):
        write(tmp_path / "a.png", Image.from_array(array), meaning=meaning)
    assert not list(tmp_path.iterdir())


def test_impossible_meanings_are_refused():
    for wrong in ({"slope": 0}, {"pixel_mm": -1.0}):
        with pytest.raises(UserError):
            RasterMeaning(**wrong)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_damaged_pictures_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(UserError, match=name):
        read(tmp_path / name)


def test_a_program_called_a_picture_is_never_run(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **options: started.append(arguments))
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 7\n(x) print showpage\n%%EOF\n"
    for name in ("photo.png", "photo.jpg", "photo.gif", "photo.bmp", "photo.tif"):
        (tmp_path / name).write_bytes(program)
        with pytest.raises(UserError, match=rf"{name} cannot be read as a picture"):
            read(tmp_path / name)
    assert not started


def test_truncated_pictures_are_named(tmp_path):
    for name in ("a.png", "a.tif"):
        write(tmp_path / name, Image.from_array(noise((40, 40), np.uint16)))
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:900])
        with pytest.raises(UserError, match=name):
            read(tmp_path / name)


def test_a_failing_slab_leaves_nothing(tmp_path):
    def compute(start, stop):
        if start == 2:
            raise RuntimeError("killed")
        return np.zeros((1, 1, 4, 4))

    image = Image.from_array(np.zeros((3, 4, 4))).with_array(ComputedArray((1, 3, 4, 4), np.int16, compute))
    for name in ("a.tif", "a.npy"):
        with pytest.raises(RuntimeError):
            write(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (2, 3, 4, 5)])
def test_npy_keeps_type_and_shape(tmp_path, shape):
    np.save(tmp_path / "a.npy", noise(shape, np.uint16))
    image = read(tmp_path / "a.npy")
    write(tmp_path / "b.npy", image)
    back = np.load(tmp_path / "b.npy")
    assert back.shape == (1,) * (4 - len(shape)) + shape
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back.reshape(shape), noise(shape, np.uint16))


def test_npy_obeys_the_meaning(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 4095]], np.uint16))
    image = read(tmp_path / "a.npy", meaning=AS_HU)
    assert image.numpy().ravel().tolist() == [-1024, 3071]
    assert (image.unit, image.spacing) == ("HU", (1.0, 0.75, 0.75))


@pytest.mark.parametrize("array", [np.array([object()]), np.zeros(3), np.zeros((2, 2, 2, 2, 2), complex)])
def test_npy_of_other_things_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.npy"):
        read(tmp_path / "a.npy")


def test_a_real_ct_slice_in_16_bits(shared, tmp_path):
    path = next((shared / "denoise-ct-hu" / "slices" / "lidc0314").glob("*.png"))
    image = read(path, meaning=AS_HU)
    assert image.dtype == np.int16
    assert image.numpy().min() >= -1024
    assert (image.numpy() < -800).any()
    assert (image.numpy() > 255).any()
    write(tmp_path / "a.png", image)
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "a.png")), np.asarray(Pillow.open(path)))
