import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from ganatomy.errors import UserError
from ganatomy.images.files import find, read, write
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
        ("TZYX", (2, 3, 5, 6), (2, 3, 5, 6)),
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


def turned(pixels, orientation):
    """Return pixels as Pillow shows them."""
    picture = Pillow.fromarray(pixels)
    picture.getexif()[274] = orientation
    return np.asarray(ImageOps.exif_transpose(picture))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "deep.png", "a.webp", "a.tif", "lzw.tif", "palette.tif"])
def test_pictures_lie_as_exif_says_that_they_are_shown(tmp_path, name, orientation):
    pixels, shown = noise((4, 7, 3), np.uint8), None
    exif = Pillow.Exif()
    exif[274] = orientation
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, pixels, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    elif name == "lzw.tif":
        Pillow.fromarray(pixels).save(tmp_path / name, exif=exif, compression="tiff_lzw")
    elif name == "palette.tif":
        Pillow.fromarray(pixels).quantize(28).save(tmp_path / name, exif=exif)
        pixels = np.asarray(Pillow.fromarray(pixels).quantize(28).convert("RGB"))
    elif name == "deep.png":
        deep = noise((4, 7, 3), np.uint16)
        png_with_every_filter(tmp_path / "plain.png", deep)
        data, chunk = (tmp_path / "plain.png").read_bytes(), b"eXIf" + exif.tobytes()[6:]
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        (tmp_path / name).write_bytes(data[:33] + chunk + data[33:])
        shown = np.stack([turned(deep[..., i], orientation) for i in range(3)])
    else:
        Pillow.fromarray(pixels).save(tmp_path / name, exif=exif, lossless=True)
    shown = np.moveaxis(turned(pixels, orientation), -1, 0) if shown is None else shown
    image = read(tmp_path / name)
    np.testing.assert_array_equal(image.numpy()[:, 0], shown)
    write(tmp_path / "again.png", image)
    np.testing.assert_array_equal(read(tmp_path / "again.png").numpy(), image.numpy())


def test_a_photograph_is_turned_and_its_preview_is_no_slice(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16] = 255
    exif = Pillow.Exif()
    exif[274] = 6
    preview = Pillow.fromarray(pixels[:8, :8])
    Pillow.fromarray(pixels).save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview], exif=exif)
    image = read(tmp_path / "a.jpg")
    assert (image.channels, image.shape) == (3, (1, 32, 16))
    assert image.numpy()[:, 0, :16, 8:].min() > 250 and image.numpy()[:, 0, 16:].max() < 5


def sizes_in_itk(path):
    columns, rows, *_ = pytest.importorskip("SimpleITK").ReadImage(str(path)).GetSpacing()
    return rows, columns


CM = {"resolution": (10 / 0.5, 10 / 0.7), "resolutionunit": "CENTIMETER"}
INCH = {"resolution": (25.4 / 0.5, 25.4 / 0.7), "resolutionunit": "INCH"}
BARE = {"resolution": (10 / 0.5, 10 / 0.7), "resolutionunit": "NONE"}
IMAGEJ = {"imagej": True, "resolution": (1 / 500, 1 / 700), "metadata": {"unit": "um", "spacing": 2500, "axes": "ZYX"}}
MICRO = IMAGEJ | {"metadata": IMAGEJ["metadata"] | {"unit": r"\u00B5m"}}
SCREEN = {"imagej": True, "resolution": (72, 72), "metadata": {"unit": "inch", "axes": "ZYX"}}
PLAIN = {"imagej": True, "resolution": (0.5, 0.7), "metadata": {"unit": "pixel", "spacing": 2.5, "axes": "ZYX"}}
OME = {"PhysicalSizeX": 500, "PhysicalSizeY": 0.7, "PhysicalSizeYUnit": "mm", "PhysicalSizeZ": 2500, "axes": "ZYX"}


@pytest.mark.parametrize(
    ("options", "spacing", "source"),
    [
        (CM, (1.0, 0.7, 0.5), "resolution of the TIFF"),
        (INCH, (1.0, 0.7, 0.5), "resolution of the TIFF"),
        (BARE, (1.0, 1.0, 1.0), None),
        (IMAGEJ, (2.5, 0.7, 0.5), "ImageJ"),
        (MICRO, (2.5, 0.7, 0.5), "ImageJ"),
        (PLAIN, (1.0, 1.0, 1.0), None),
        (SCREEN, (1.0, 1.0, 1.0), None),
        ({"ome": True, "metadata": OME}, (2.5, 0.7, 0.5), "OME"),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, (1.0, 1.0, 1.0), None),
        ({"resolution": ((0, 1), (0, 1)), "resolutionunit": "INCH"}, (1.0, 1.0, 1.0), None),
    ],
)
def test_tiffs_state_the_size_of_their_pixels(tmp_path, options, spacing, source):
    tifffile.imwrite(tmp_path / "a.tif", noise((4, 5, 6), np.uint16), photometric="minisblack", **options)
    image = read(tmp_path / "a.tif")
    np.testing.assert_allclose(image.spacing, spacing, rtol=1e-6)
    assert image.shape == (4, 5, 6)
    assert image.header.sized_by is source or source in image.header.sized_by
    given = read(tmp_path / "a.tif", meaning=RasterMeaning(pixel_mm=0.25))
    assert given.spacing[1:] == (0.25, 0.25)
    assert given.header.sized_by is None


def test_pngs_state_the_size_of_their_pixels_unless_it_is_that_of_a_screen(tmp_path):
    for dpi, size in (((254, 127), (0.2, 0.1)), ((96, 96), (1.0, 1.0)), ((100, 100), (1.0, 1.0))):
        Pillow.fromarray(noise((5, 6), np.uint8)).save(tmp_path / "a.png", dpi=dpi)
        np.testing.assert_allclose(read(tmp_path / "a.png").spacing[1:], size, rtol=1e-3)
    Pillow.fromarray(noise((5, 6), np.uint8)).save(tmp_path / "a.jpg", dpi=(254, 254))
    assert read(tmp_path / "a.jpg").spacing == (1.0, 1.0, 1.0)


def test_sizes_of_pixels_survive_with_the_values(tmp_path):
    array = noise((3, 5, 6), np.uint16)
    image = Image.from_array(array, (2.5, 0.7, 0.5))
    write(tmp_path / "a.tif", image)
    back = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(back.numpy()[0], array)
    np.testing.assert_allclose(back.affine, image.affine, rtol=1e-9)
    write(tmp_path / "b.tif", back)
    np.testing.assert_allclose(read(tmp_path / "b.tif").affine, image.affine, rtol=1e-9)
    np.testing.assert_allclose(sizes_in_itk(tmp_path / "b.tif"), (0.7, 0.5), rtol=1e-5)
    write(tmp_path / "a.png", Image.from_array(array[0], (1.0, 0.7, 0.5)))
    np.testing.assert_allclose(read(tmp_path / "a.png").spacing, (1.0, 0.7, 0.5), rtol=1e-3)
    assert Pillow.open(tmp_path / "a.png").info["dpi"] == pytest.approx((25.4 / 0.5, 25.4 / 0.7), rel=1e-3)


def test_pixels_of_unknown_size_stay_so(tmp_path):
    Pillow.fromarray(noise((5, 6), np.uint8)).save(tmp_path / "a.png")
    for name in ("b.png", "b.tif"):
        write(tmp_path / name, read(tmp_path / "a.png"))
        assert read(tmp_path / name).header.meaning.pixel_mm is None


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("ZYX", (3, 5, 6), (1, 3)),
        ("CZYX", (2, 3, 5, 6), (2, 3)),
        ("ZCYX", (3, 2, 5, 6), (2, 3)),
        ("TZYX", (4, 3, 5, 6), (4, 3)),
    ],
)
def test_axes_of_ome_are_channels_and_slices_in_whatever_order(tmp_path, axes, shape, expected):
    pixels = noise(shape, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, ome=True, metadata={"axes": axes})
    array = read(tmp_path / "a.tif").numpy()
    assert array.shape == (*expected, 5, 6)
    channels = pixels[None] if len(shape) == 3 else pixels if axes[0] != "Z" else pixels.swapaxes(0, 1)
    np.testing.assert_array_equal(array, channels)


def test_time_frames_of_several_channels_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise((2, 3, 5, 6), np.uint16), ome=True, metadata={"axes": "TCYX"})
    with pytest.raises(UserError, match=r"a\.tif holds 2 time frames of several channels"):
        read(tmp_path / "a.tif")


def transparent(path, mode):
    """Write two pixels, of which the first is black and transparent and the second white."""
    if mode == "P":
        picture = Pillow.fromarray(np.array([[0, 1]], np.uint8), "P")
        picture.putpalette([0, 0, 0, 255, 255, 255])
        picture.save(path, transparency=0)
    elif mode in ("L", "RGB"):
        picture = Pillow.fromarray(np.array([[0, 255]], np.uint8)).convert(mode)
        picture.save(path, transparency=0 if mode == "L" else (0, 0, 0))
    else:
        shown = np.array([[[0, 0], [255, 255]]], np.uint8)
        Pillow.fromarray(shown if mode == "LA" else shown[..., [0, 0, 0, 1]], mode).save(path)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "LA", "RGBA"])
@pytest.mark.parametrize("background", [None, 0, 77])
def test_transparent_pictures_lie_on_a_background_where_one_is_given(tmp_path, mode, background):
    transparent(tmp_path / "a.png", mode)
    image = read(tmp_path / "a.png", meaning=RasterMeaning(background=background))
    colours = 1 if mode in ("L", "LA") else 3
    assert image.channels == colours + (background is None)
    values = image.numpy()[:colours, 0, 0]
    assert values.tolist() == [[background or 0, 255]] * colours


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_with_a_clear_colour(path, bits, values, clear):
    """Write one row of greys, or of colours that are tuples, of which one is transparent by a tRNS chunk."""
    colours = [np.atleast_1d(value).tolist() for value in values]
    line = "".join(f"{number:0{bits}b}" for colour in colours for number in colour)
    line = line.ljust(-(-len(line) // 8) * 8, "0")
    head = struct.pack(">IIBBBBB", len(values), 1, bits, 0 if len(colours[0]) == 1 else 2, 0, 0, 0)
    key = np.atleast_1d(clear).astype(">u2").tobytes()
    body = zlib.compress(b"\0" + int(line, 2).to_bytes(len(line) // 8, "big"))
    chunks = [(b"IHDR", head), (b"tRNS", key), (b"IDAT", body), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks))


@pytest.mark.parametrize(
    ("bits", "values", "clear", "shown"),
    [
        (1, [0, 1, 1], 1, [[0, 255, 255], [255, 0, 0]]),
        (2, [0, 1, 3], 1, [[0, 85, 255], [255, 0, 255]]),
        (4, [0, 7, 15], 15, [[0, 119, 255], [255, 255, 0]]),
        (8, [0, 99, 255], 99, [[0, 99, 255], [255, 0, 255]]),
        (16, [0, 1000, 65535], 1000, [[0, 1000, 65535], [65535, 0, 65535]]),
        (16, [0, 1000, 1001], 0, [[0, 1000, 1001], [0, 65535, 65535]]),
        (8, [(1, 2, 3), (1, 2, 4)], (1, 2, 3), [[1, 1], [2, 2], [3, 4], [0, 255]]),
        (16, [(1, 2, 300), (1, 2, 44)], (1, 2, 300), [[1, 1], [2, 2], [300, 44], [0, 65535]]),
        (16, [5, 6], 7, [[5, 6]]),
    ],
)
def test_the_clear_colour_of_a_png_is_an_opacity_in_any_number_of_bits(tmp_path, bits, values, clear, shown):
    png_with_a_clear_colour(tmp_path / "a.png", bits, values, clear)
    image = read(tmp_path / "a.png")
    assert image.numpy()[:, 0, 0].tolist() == shown
    assert image.header.colours == (len(shown) > 1)
    laid = read(tmp_path / "a.png", meaning=RasterMeaning(background=4)).numpy()[:, 0, 0]
    colours, opaque = (shown[:-1], shown[-1]) if len(shown) in (2, 4) else (shown, [1] * len(values))
    assert laid.tolist() == [[one if seen else 4 for one, seen in zip(row, opaque, strict=True)] for row in colours]


def test_a_clear_grey_of_labels_stays_a_label(tmp_path):
    png_with_a_clear_colour(tmp_path / "a.png", 2, [0, 1, 3], 1)
    (source,) = find(tmp_path / "a.png")
    assert source.labelled().open().numpy().ravel().tolist() == [0, 1, 3]


def test_grey_of_16_bits_with_opacity_is_read_and_written_with_all_bits(tmp_path):
    pixels = noise((7, 5, 2), np.uint16)
    png_with_every_filter(tmp_path / "a.png", pixels)
    image = read(tmp_path / "a.png")
    np.testing.assert_array_equal(image.numpy()[:, 0], np.moveaxis(pixels, -1, 0))
    write(tmp_path / "b.png", image)
    np.testing.assert_array_equal(read(tmp_path / "b.png").numpy(), image.numpy())


def test_half_transparent_pixels_are_mixed_with_the_background(tmp_path):
    Pillow.fromarray(np.array([[[200, 100, 0, 51]]], np.uint8)).save(tmp_path / "a.png")
    image = read(tmp_path / "a.png", meaning=RasterMeaning(background=255))
    assert image.numpy().ravel().tolist() == [244, 224, 204]
    with pytest.raises(UserError, match="--backdrop 300 is no number from 0 to 255"):
        read(tmp_path / "a.png", meaning=RasterMeaning(background=300))


def test_colours_of_a_palette_have_8_bits(tmp_path):
    colours = noise((3, 256), np.uint16)
    indices = noise((5, 6), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colours)
    image = read(tmp_path / "a.tif")
    assert (image.channels, image.dtype) == (3, np.uint8)
    np.testing.assert_array_equal(image.numpy()[:, 0], (colours >> 8)[:, indices])


def test_webp_is_read_as_pillow_reads_it(tmp_path):
    pixels = noise((5, 6, 3), np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(read(tmp_path / "a.webp").numpy()[:, 0], np.moveaxis(pixels, -1, 0))
