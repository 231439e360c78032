import io
import struct
import sys
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from ganatomy.errors import UserError
from ganatomy.images import slides
from ganatomy.images.files import find, read
from ganatomy.images.image import RasterMeaning
from ganatomy.images.slides import ScannedSlide, open_slide

ROWS, COLUMNS = 391, 517
SHRINK = (1, 2, 8)
APERIO = f"Aperio Image Library v12.0.15\r\n{COLUMNS}x{ROWS} (80x64)|AppMag = 20|MPP = 0.5"


def stain(channels=3, dtype=np.uint8):
    """Make up smooth tissue on bright glass, (rows, columns[, channels]), with noise of single pixels."""
    y, x = np.indices((ROWS, COLUMNS))
    tissue = ((y - 150) / 110) ** 2 + ((x - 300) / 160) ** 2 < 1
    glass, stained = np.array([243, 240, 236]), np.array([180, 90, 150])
    values = np.where(tissue[..., None], stained, glass)[..., :channels]
    noise = np.random.default_rng(0).integers(-9, 10, values.shape)
    scale = 200 if np.dtype(dtype).itemsize == 2 else 1
    return np.squeeze((values + noise) * scale).astype(dtype)


def levels_of(pixels):
    return [pixels[::factor, ::factor] for factor in SHRINK]


def pyramid(path, pixels=None, layout="pages", tile=(64, 80), description=None, **options):
    """Write a pyramidal TIFF with pixels of 0.25 by 0.5 µm (rows, columns) and levels 2 and 8 times smaller."""
    pixels = stain() if pixels is None else pixels
    options = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack", "compression": "deflate", **options}
    options |= {"tile": tile} if tile else {"rowsperstrip": 37}
    with tifffile.TiffWriter(path) as file:
        for number, (factor, level) in enumerate(zip(SHRINK, levels_of(pixels), strict=True)):
            level = np.moveaxis(level, -1, 0) if options.get("planarconfig") == "separate" else level
            inner = {"subifds": 2} if layout == "subifds" and not number else {}
            inner |= {"description": description} if description and not number else {}
            size = (1e4 / (0.5 * factor), 1e4 / (0.25 * factor))
            kind = {"subfiletype": 1} if number else {}
            file.write(level, resolution=size, resolutionunit="CENTIMETER", metadata=None, **kind, **inner, **options)
    return path


LAYOUTS = {
    "pages": {},
    "subifds": {"layout": "subifds"},
    "strips": {"tile": None},
    "stored": {"compression": None},
    "planes": {"planarconfig": "separate"},
    "grey": {"pixels": stain(1)},
    "16 bits": {"pixels": stain(3, np.uint16), "layout": "subifds"},
    "predicted": {"predictor": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_regions_of_all_levels_are_those_of_tifffile(tmp_path, layout):
    options = LAYOUTS[layout]
    path = pyramid(tmp_path / "a.tif", **options)
    pixels = options.get("pixels", stain())
    with open_slide(path) as slide:
        assert [(one.rows, one.columns) for one in slide.levels] == [one.shape[:2] for one in levels_of(pixels)]
        np.testing.assert_allclose(slide.levels[0].pixel_mm, (0.00025, 0.0005), rtol=1e-6)
        np.testing.assert_allclose(slide.levels[2].pixel_mm, (0.00025 * ROWS / 49, 0.0005 * COLUMNS / 65))
        for number, level in enumerate(levels_of(pixels)):
            expected = np.moveaxis(level.reshape(*level.shape[:2], -1), -1, 0)
            np.testing.assert_array_equal(slide.whole(number), expected)
            height, width = level.shape[:2]
            for x, y, w, h in ((0, 0, 1, 1), (5, 3, width - 7, height - 4), (width - 3, height - 2, 3, 2)):
                np.testing.assert_array_equal(slide.region(number, x, y, w, h), expected[:, y : y + h, x : x + w])
        for place in ((-1, 0, 2, 2), (0, 0, COLUMNS + 1, 1), (COLUMNS - 1, 0, 2, 1), (0, 0, 0, 1)):
            with pytest.raises(ValueError, match="not within"):
                slide.region(0, *place)


@pytest.mark.parametrize("name", ["a.tif", "a.svs"])
def test_openslide_reads_the_same_pixels(tmp_path, name):
    openslide = pytest.importorskip("openslide")
    path = pyramid(tmp_path / name, description=APERIO if name == "a.svs" else None)
    with openslide.OpenSlide(path) as theirs, ScannedSlide(path) as ours:
        assert [(one.columns, one.rows) for one in ours.levels] == list(theirs.level_dimensions)
        mm = (0.0005, 0.0005) if name == "a.svs" else (0.00025, 0.0005)  # Aperio states one number for both
        np.testing.assert_allclose(ours.levels[0].pixel_mm, mm, rtol=1e-6)
        for number, level in enumerate(levels_of(stain())[:2]):
            np.testing.assert_array_equal(ours.whole(number), np.moveaxis(level, -1, 0))
            shown = np.asarray(theirs.read_region((30 * SHRINK[number], 20 * SHRINK[number]), number, (40, 35)))
            np.testing.assert_array_equal(ours.region(number, 30, 20, 40, 35), np.moveaxis(shown[..., :3], -1, 0))
    image = read(path, meaning=RasterMeaning(level=1))
    np.testing.assert_array_equal(image.numpy()[:, 0], np.moveaxis(stain()[::2, ::2], -1, 0))
    np.testing.assert_allclose(image.spacing[1:], [mm[0] * ROWS / 196, mm[1] * COLUMNS / 259], rtol=1e-6)
    assert image.header.colours and image.header.sized_by


def test_a_tiff_that_can_be_held_is_read_as_before_and_a_level_where_it_is_asked_for(tmp_path):
    path = pyramid(tmp_path / "a.tif", layout="subifds")
    (source,) = find(path)
    assert source.name == "a" and source.kind == "raster"
    np.testing.assert_array_equal(read(path).numpy()[:, 0], np.moveaxis(stain(), -1, 0))
    image = read(path, meaning=RasterMeaning(level=2))
    np.testing.assert_array_equal(image.numpy()[:, 0], np.moveaxis(stain()[::8, ::8], -1, 0))
    np.testing.assert_allclose(image.spacing[1:], [0.00025 * ROWS / 49, 0.0005 * COLUMNS / 65])
    with pytest.raises(UserError, match=r"a\.tif has no level 3; there are 0: 517 x 391 pixels of 0\.5 µm; 1: 259"):
        read(path, meaning=RasterMeaning(level=3))


def test_pixels_of_a_size_are_averages_of_the_next_finer_level(tmp_path):
    smooth = np.add.outer(np.arange(ROWS), 2 * np.arange(COLUMNS)).astype(np.uint16)
    path = pyramid(tmp_path / "a.tif", smooth)
    image = read(path, meaning=RasterMeaning(mpp=2.0))  # of level 1, whose pixels are nearly 1 µm
    rows, columns = image.shape[1:]
    assert (rows, columns) == (98, 129)
    np.testing.assert_allclose(image.spacing[1:], [0.00025 * ROWS / rows, 0.0005 * COLUMNS / columns], rtol=1e-6)
    y = (np.arange(rows) + 0.5) * 196 / rows * 2 - 1
    x = (np.arange(columns) + 0.5) * 259 / columns * 2 - 1
    expected = np.add.outer(y, 2 * x)
    np.testing.assert_allclose(image.numpy()[0, 0], expected, atol=0.51)
    exact = read(path, meaning=RasterMeaning(mpp=0.5))
    np.testing.assert_array_equal(exact.numpy()[0, 0], smooth)
    with pytest.raises(UserError, match=r"--mpp 0\.3 is finer than its finest level"):
        read(path, meaning=RasterMeaning(mpp=0.3))


def test_pixels_do_not_depend_on_how_many_rows_are_read_at_once(tmp_path, monkeypatch):
    path = pyramid(tmp_path / "a.tif")
    images = []
    for pixels in (1 << 24, 3000):
        monkeypatch.setattr(slides, "STRIP", pixels)
        images.append(read(path, meaning=RasterMeaning(mpp=2.7)).numpy())
    np.testing.assert_array_equal(images[0], images[1])


def test_a_level_is_read_in_strips_of_bounded_size(tmp_path, monkeypatch):
    path, asked = pyramid(tmp_path / "a.tif"), []
    monkeypatch.setattr(slides, "STRIP", 5000)
    region = slides.Slide.region
    monkeypatch.setattr(slides.Slide, "region", lambda self, *place: asked.append(place) or region(self, *place))
    read(path, meaning=RasterMeaning(level=1))
    read(path, meaning=RasterMeaning(mpp=1.6))
    assert len(asked) > 10 and max(width * height for *_, width, height in asked) <= 5000


def test_labels_stay_labels(tmp_path):
    labels = (stain(1) < 200).astype(np.uint8) * 7
    path = pyramid(tmp_path / "a.tif", labels)
    (source,) = find(path, meaning=RasterMeaning(mpp=1.4, slope=3.0))
    found = source.labelled().open().numpy()
    assert set(np.unique(found)) == {0, 7}
    pyramid(tmp_path / "b.tif")
    with pytest.raises(UserError, match=r"b\.tif is in colours"):
        find(tmp_path / "b.tif", meaning=RasterMeaning(level=1))[0].labelled().open()


def test_tiles_that_are_not_stored_are_black_and_lost_ones_an_error(tmp_path):
    path = pyramid(tmp_path / "a.tif", tile=(64, 80))
    with tifffile.TiffFile(path) as file:
        offsets, counts = (file.pages[1].tags[name] for name in ("TileOffsets", "TileByteCounts"))
    sound = bytearray(path.read_bytes())
    for tag in (offsets, counts):
        struct.pack_into("<I" if tag.dtype == 4 else "<H", sound, tag.valueoffset, 0)
    path.write_bytes(sound)
    image = read(path, meaning=RasterMeaning(level=1)).numpy()[:, 0]
    assert not image[:, :64, :80].any()
    np.testing.assert_array_equal(image[:, 64:], np.moveaxis(stain()[::2, ::2], -1, 0)[:, 64:])
    struct.pack_into("<I", sound, offsets.valueoffset, 999)
    path.write_bytes(sound)
    with pytest.raises(UserError, match=r"a\.tif is truncated or damaged"):
        read(path, meaning=RasterMeaning(level=1))


def test_what_is_too_large_names_the_levels_and_the_options(tmp_path, monkeypatch):
    path = pyramid(tmp_path / "a.tif")
    monkeypatch.setattr(slides, "MOST_PIXELS", 60_000)
    with pytest.raises(UserError, match=r"517 x 391 pixels are too many.*--level \(0: .*2: 65 x 49 pixels.*--mpp"):
        read(path)
    with pytest.raises(UserError, match="too many"):
        read(path, meaning=RasterMeaning(mpp=0.5))
    assert read(path, meaning=RasterMeaning(level=1)).shape == (1, 196, 259)
    with open_slide(path) as slide, pytest.raises(UserError, match="read it in parts"):
        slide.region(0, 0, 0, COLUMNS, ROWS)


def test_a_slide_without_a_size_of_its_pixels_has_levels_only(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number, level in enumerate(levels_of(stain())):
            file.write(level, photometric="rgb", tile=(64, 80), metadata=None, subfiletype=int(number > 0))
    image = read(tmp_path / "a.tif", meaning=RasterMeaning(level=1))
    assert image.spacing == (1, 1, 1) and image.header.sized_by is None
    assert read(tmp_path / "a.tif", meaning=RasterMeaning(level=1, pixel_mm=0.002)).spacing == (1, 0.002, 0.002)
    with pytest.raises(UserError, match="states no size of its pixels, so give --level"):
        read(tmp_path / "a.tif", meaning=RasterMeaning(mpp=1))


@pytest.mark.parametrize("name", ["a.svs", "a.ndpi", "a.tif"])
def test_the_extra_is_named_where_it_is_needed(tmp_path, name, monkeypatch):
    path = pyramid(tmp_path / name)
    if name == "a.tif":  # in a compression that only OpenSlide knows
        data = path.read_bytes()
        path.write_bytes(data.replace(struct.pack("<HHII", 259, 3, 1, 32946), struct.pack("<HHII", 259, 3, 1, 7)))
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(UserError, match=r"pip install 'ganatomy\[slides\]'"):
        read(path, meaning=RasterMeaning(level=1))


def test_thumbnail_and_background(tmp_path):
    path = pyramid(tmp_path / "a.tif")
    with open_slide(path) as slide:
        small = slide.thumbnail(100)
        assert small.shape == (3, 76, 100)
        assert np.abs(small[:, 29, 58] - np.array([180, 90, 150])).max() < 6  # the middle of the tissue
        np.testing.assert_allclose(slide.background(), (243, 240, 236), atol=2)
    flat = pyramid(tmp_path / "b.tif", np.full((ROWS, COLUMNS, 3), 77, np.uint8))
    with open_slide(flat) as slide:
        np.testing.assert_array_equal(slide.background(), (77, 77, 77))
        assert slide.thumbnail(5000).shape == (3, ROWS, COLUMNS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["a.tif", "a.svs"])
def test_damaged_slides_are_refused_by_name_or_read_whole(tmp_path, name):
    if name == "a.svs":
        pytest.importorskip("openslide")
    path = pyramid(tmp_path / name, description=APERIO)
    sound, random = path.read_bytes(), np.random.default_rng(0)
    damages = [b"", b"no slide" * 40, sound[: len(sound) // 2], sound[:200]]
    heads = [sound.index(struct.pack("<HH", 256, 4)) + 12 * number for number in range(12)]
    for place in [*heads, *(int(one) for one in random.integers(0, len(sound) - 8, 20))]:
        nasty = (2**31 - 1, 0, 2**15 - 1, 2**32 - 1)[random.integers(4)]
        damages.append(sound[: place + 8] + struct.pack("<I", nasty) + sound[place + 12 :])
    for damage in damages:
        path.write_bytes(damage)
        try:
            image = read(path, meaning=RasterMeaning(level=1))
        except UserError as error:
            assert name in str(error) and "\n" not in str(error)
        else:
            assert image.numpy().size


@pytest.mark.parametrize(("options", "told"), [({"level": -1}, "counted from 0"), ({"mpp": 0.0}, "must be positive")])
def test_impossible_statements_are_refused(options, told):
    with pytest.raises(UserError, match=told):
        RasterMeaning(**options)
    with pytest.raises(UserError, match="give one of them"):
        RasterMeaning(level=1, mpp=1.0)


def test_digests_of_cases_without_slides_stay(tmp_path):
    plain = RasterMeaning(2.0, unit="HU")
    assert repr(plain) == (
        "RasterMeaning(slope=2.0, intercept=0.0, unit='HU', pixel_mm=None, background=None, nan=None)"
    )
    assert repr(RasterMeaning(level=1)).endswith("nan=None, level=1)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert repr(RasterMeaning(mpp=0.5)) != repr(RasterMeaning(mpp=1.0))


def test_a_pyramid_compressed_as_jpeg_is_read_by_openslide(tmp_path):
    pytest.importorskip("openslide")
    smooth = np.stack(np.broadcast_arrays(*np.indices((128, 192)), 70), -1).astype(np.uint8)

    def encoded(level):
        for y in range(0, level.shape[0], 32):
            for x in range(0, level.shape[1], 48):
                stream = io.BytesIO()
                Pillow.fromarray(level[y : y + 32, x : x + 48]).save(stream, "JPEG", quality=100, keep_rgb=True)
                yield stream.getvalue()

    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for factor in (1, 2):
            level = smooth[::factor, ::factor]
            options = {"shape": level.shape, "dtype": "uint8", "tile": (32, 48), "photometric": "rgb"}
            options |= {"compression": "deflate", "metadata": None, "subfiletype": factor - 1}
            file.write(encoded(level), resolution=(2e4 / factor,) * 2, resolutionunit="CENTIMETER", **options)
    marks = [struct.pack("<HHII", 259, 3, 1, number) for number in (32946, 7)]
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes().replace(*marks))
    image = read(tmp_path / "a.tif", meaning=RasterMeaning(mpp=1.0))
    np.testing.assert_allclose(image.spacing[1:], [0.001, 0.001])
    shown = np.moveaxis(smooth[::2, ::2], -1, 0)
    assert np.abs(image.numpy()[:, 0].astype(int) - shown).max() <= 3
    assert np.abs(read(tmp_path / "a.tif").numpy()[:, 0].astype(int) - np.moveaxis(smooth, -1, 0)).max() <= 3


def test_a_tiff_whose_levels_belong_to_its_only_page_is_read_by_pillow_as_before(tmp_path, monkeypatch):
    lzw = tmp_path / "lzw.tif"
    Pillow.fromarray(stain()).save(lzw, compression="tiff_lzw")
    monkeypatch.setitem(sys.modules, "openslide", None)
    np.testing.assert_array_equal(read(lzw).numpy()[:, 0], np.moveaxis(stain(), -1, 0))
    path = pyramid(tmp_path / "a.tif", layout="subifds")
    monkeypatch.setattr(slides, "_decodes", lambda pages: False)
    np.testing.assert_array_equal(read(path).numpy()[:, 0], np.moveaxis(stain(), -1, 0))
    with pytest.raises(UserError, match=r"ganatomy\[slides\]"):
        read(path, meaning=RasterMeaning(level=1))
