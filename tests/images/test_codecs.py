import json
from dataclasses import replace

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ganatomy.errors import UserError
from ganatomy.images.codecs import Codec, DeviationWindow, OpticalDensity, PercentileWindow, Window, ZScore, body_above
from ganatomy.images.image import ComputedArray, Image

ADAPTER = pydantic.TypeAdapter(Codec)
CT = Window(low=-160, high=240)
FIXED = [
    CT,
    Window(low=-1024, high=3071, to=(0, 1)),
    ZScore(mean=-500.0, std=480.0, unit="HU"),
    OpticalDensity(white=240),
]


def image(values, unit=None):
    return Image.from_array(np.asarray(values), unit=unit)


@pytest.mark.parametrize("codec", FIXED[:3])
@given(arrays.arrays(np.int16, 20))
def test_every_16_bit_integer_comes_back(codec, values):
    decoded = codec.decode(codec.encode(values))
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(np.rint(decoded), values)


@given(
    st.floats(-3000, 3000),
    st.floats(1, 5000),
    arrays.arrays(np.float64, 10, elements=st.floats(-1e4, 1e4)),
    st.sampled_from([(-1.0, 1.0), (0.0, 1.0)]),
)
def test_windows_invert_for_any_numbers(low, width, values, to):
    codec = Window(low=low, high=low + width, to=to)
    np.testing.assert_allclose(codec.decode(codec.encode(values)), values, atol=1e-7)


@given(arrays.arrays(np.uint8, 20))
def test_optical_density_inverts(values):
    codec = OpticalDensity()
    np.testing.assert_array_equal(np.rint(codec.decode(codec.encode(values))), values)


def test_known_values():
    np.testing.assert_allclose(CT.encode(np.array([-160, 40, 240, 640])), [-1, 0, 1, 3])
    np.testing.assert_allclose(CT.model_copy(update={"clip": True}).encode(np.array([-1000, 640])), [-1, 1])
    np.testing.assert_allclose(ZScore(mean=10, std=5).encode(np.array([10, 20])), [0, 2])
    np.testing.assert_allclose(OpticalDensity(white=99).encode(np.array([99, 9, 0])), [0, 1, 2], atol=1e-6)


@pytest.mark.parametrize("codec", FIXED)
@pytest.mark.parametrize("dtype", [torch.int16, torch.float32, torch.float64])
def test_tensors_get_what_arrays_get(codec, dtype):
    tensor = torch.arange(0, 200, 7).to(dtype)
    encoded = codec.encode(tensor)
    assert encoded.dtype == (dtype if dtype.is_floating_point else torch.float32)
    np.testing.assert_allclose(encoded.numpy(), codec.encode(tensor.numpy()), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(codec.decode(encoded).round(), tensor.to(encoded.dtype))


def test_codecs_let_gradients_through():
    values = torch.tensor([10.0], requires_grad=True)
    CT.encode(values).sum().backward()
    assert values.grad.item() == pytest.approx(2 / 400)


@pytest.mark.parametrize(
    "codec",
    [
        *FIXED,
        ZScore(),
        PercentileWindow(p_low=2, p_high=98, unit="a.u."),
        DeviationWindow(deviations=2, to=(0, 1), clip=True, over="body"),
        ZScore(over="body", background=-3.5),
        ZScore(mean=3, std=2, over="body", above=0.5, background=-3.5),
    ],
)
def test_codecs_are_saved_as_text(codec):
    assert ADAPTER.validate_python(json.loads(codec.model_dump_json())) == codec


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "window", "low": 1, "high": 1},
        {"kind": "window", "low": 0, "high": 1, "to": [1, -1]},
        {"kind": "zscore", "mean": 1},
        {"kind": "zscore", "mean": 1, "std": 0},
        {"kind": "zscore", "above": 3.0},
        {"kind": "zscore", "background": -3.0},
        {"kind": "zscore", "mean": 1, "std": 2, "over": "body", "background": -3.0},
        {"kind": "percentile", "above": 3.0},
        {"kind": "deviations", "deviations": 0},
        {"kind": "optical_density", "white": -1},
        {"kind": "other"},
        {"kind": "window", "low": 0, "high": 1, "typo": 2},
    ],
)
def test_impossible_codecs_are_refused(wrong):
    with pytest.raises(pydantic.ValidationError):
        ADAPTER.validate_python(wrong)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_zscore_takes_the_numbers_of_an_image(offset):
    values = np.random.default_rng(0).normal(3, 2, (4, 8, 8)) + offset
    codec = ZScore(unit="a.u.").bind(image(values))
    np.testing.assert_allclose([codec.mean, codec.std], [values.mean(), values.std()], rtol=1e-9)
    assert codec.unit == "a.u."
    assert codec.bind(image(values * 2)) is codec


def test_percentiles_take_the_numbers_of_an_image_inside_the_mask():
    values = np.arange(200.0).reshape(2, 10, 10)
    mask = np.zeros((2, 10, 10), bool)
    mask[0] = True
    codec = PercentileWindow(p_low=10, p_high=90, to=(0, 1))
    assert codec.bind(image(values)) == Window(
        low=np.percentile(values, 10), high=np.percentile(values, 90), to=(0, 1), unit=None
    )
    assert codec.bind(image(values), mask).high == np.percentile(values[0], 90)
    assert codec.bind(torch.from_numpy(values)) == codec.bind(values) == codec.bind(image(values))


def test_deviations_become_a_window_around_the_mean_of_the_body():
    values, inside = head(lambda rng, shape: np.zeros(shape))
    codec = DeviationWindow(deviations=2, to=(0, 1), clip=True, unit="a.u.", over="body").bind(image(values))
    mean, std = values[inside].mean(dtype=np.float64), values[inside].std(dtype=np.float64)
    assert (codec.to, codec.clip, codec.unit) == ((0, 1), True, "a.u.")
    np.testing.assert_allclose([codec.low, codec.high], [mean - 2 * std, mean + 2 * std], rtol=1e-6)
    np.testing.assert_allclose(codec.encode(np.array([0.0, mean, 1e4])), [0, 0.5, 1])


def test_fixed_codecs_bind_to_themselves():
    assert CT.bind(np.zeros(3)) is CT


@pytest.mark.parametrize("codec", [ZScore(), PercentileWindow(), DeviationWindow()])
@pytest.mark.parametrize("values", [np.zeros((3, 3)), np.array([[1, np.nan]]), np.array([[1, np.inf]])])
def test_images_without_a_range_cannot_be_bound(codec, values):
    with pytest.raises(UserError, match="the image in memory"):
        codec.bind(image(values))


@pytest.mark.parametrize("codec", [ZScore(), PercentileWindow(), DeviationWindow()])
def test_an_empty_mask_cannot_be_bound(codec):
    with pytest.raises(UserError):
        codec.bind(image(np.eye(3)), np.zeros((3, 3), bool))


@pytest.mark.parametrize("codec", [ZScore(), PercentileWindow(), DeviationWindow()])
def test_unbound_codecs_do_not_encode(codec):
    with pytest.raises(ValueError, match="bind"):
        codec.encode(np.zeros(3))


@pytest.mark.parametrize(
    ("codec", "values", "unit", "words"),
    [
        (CT, [[-1000, 50]], "a.u.", "is in a.u., but the model works in HU"),
        (CT, [[0, 255]], None, "cannot be HU"),
        (CT, [[-150, 2000]], None, "cannot be HU"),
        (CT, [[-1000.0, np.nan]], "HU", "NaN"),
        (CT, [[-1000, -1000]], "HU", "same value -1000 everywhere"),
        (ZScore(), [[np.inf, 1.0]], None, "infinite"),
        (OpticalDensity(), [[-5, 100]], None, "no light"),
    ],
)
def test_check_names_what_is_wrong(codec, values, unit, words):
    with pytest.raises(UserError, match=words):
        codec.check(image(values, unit))


def test_what_is_no_ct_is_not_told_to_become_hu():
    picture = image(np.uint8([[0, 255]]), None)
    colours = image(np.uint16([[[[0, 255]]]] * 3), None)
    magnetic = image(np.float32([[0, 255]]), None)
    magnetic = replace(magnetic, header=replace(magnetic.header, modality="MR"))
    for wrong in (picture, colours, magnetic):
        with pytest.raises(UserError, match="is no CT") as told:
            CT.check(wrong)
        assert "intercept" not in str(told.value)


def test_each_kind_of_file_is_told_the_option_that_it_takes():
    organ = image([[-17, 121]], None)
    for kind, own, other in (("nifti", "--unit HU", "--intercept"), ("raster", "--intercept", "--unit")):
        with pytest.raises(UserError, match="names no unit") as told:
            CT.check(replace(organ, header=replace(organ.header, kind=kind)))
        assert own in str(told.value) and other not in str(told.value)


def test_check_accepts_what_is_right():
    CT.check(image([[-1000, 50]]))
    CT.check(image([[0, 50]], "HU"))
    ZScore().check(image([[0.5, 1.5]]))
    OpticalDensity().check(image([[0, 255]]))


def head(air):
    """Return a head in air, (5, 12, 9), with the mask of the head; 60 % of the values are drawn by ``air``."""
    rng = np.random.default_rng(5)
    inside = np.zeros((5, 12, 9), bool)
    inside[1:, 2:11, 1:7] = True
    return np.where(inside, rng.normal(900, 50, inside.shape), air(rng, inside.shape)).astype(np.float32), inside


@pytest.mark.parametrize("lowest", [0.0, -17.5])
def test_what_was_masked_out_is_no_body(lowest):
    values, inside = head(lambda rng, shape: np.full(shape, lowest))
    values[2, 5, 4] = lowest + 1e-3  # dark, but body
    assert body_above(image(values)) == lowest
    codec = ZScore(over="body").bind(image(values))
    np.testing.assert_allclose([codec.mean, codec.std], [values[inside].mean(), values[inside].std()], rtol=1e-5)
    window = PercentileWindow(p_low=1, p_high=99, over="body").bind(image(values))
    np.testing.assert_allclose([window.low, window.high], np.percentile(values[inside], [1, 99]))


def test_noise_in_the_air_is_below_the_mean():
    values, inside = head(lambda rng, shape: np.abs(rng.normal(0, 9, shape)))
    assert body_above(image(values)) == pytest.approx(values.mean())
    codec = ZScore(over="body").bind(image(values))
    np.testing.assert_allclose([codec.mean, codec.std], [values[inside].mean(), values[inside].std()], rtol=1e-5)
    assert codec.mean > ZScore().bind(image(values)).mean + 100


@pytest.mark.parametrize(("share", "masked"), [(0.06, True), (0.04, False)])
def test_a_twentieth_of_the_voxels_must_have_the_lowest_value(share, masked):
    values = np.random.default_rng(1).permutation(np.maximum(np.arange(1000.0), 1000 * share - 1)).reshape(10, 10, 10)
    assert body_above(values) == (values.min() if masked else values.mean())


def test_a_stated_threshold_is_kept_and_others_are_not_looked_for():
    values, _ = head(lambda rng, shape: np.zeros(shape))
    codec = ZScore(over="body", above=900.0).bind(image(values))
    assert (codec.above, codec.mean) == (900.0, pytest.approx(values[values > 900].astype(np.float64).mean()))
    window = PercentileWindow(p_low=0, p_high=100, over="body", above=900.0).bind(image(values))
    assert window.low == values[values > 900].min()
    with pytest.raises(UserError, match="above 5000"):
        ZScore(over="body", above=5000.0).bind(image(values))
    with pytest.raises(UserError, match="above 5000"):
        PercentileWindow(over="body", above=5000.0).bind(image(values))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_the_background_is_set_and_the_body_comes_back(kind):
    values, inside = head(lambda rng, shape: np.full(shape, -4.0))
    codec = ZScore(over="body", background=-3.5).bind(image(values))
    encoded = codec.encode(kind(values))
    assert type(encoded) is type(kind(values)) and encoded.dtype == kind(values).dtype
    assert (np.asarray(encoded)[~inside] == -3.5).all() and (np.asarray(encoded)[inside] > -3.5).all()
    np.testing.assert_allclose(np.asarray(codec.decode(encoded))[inside], values[inside], rtol=1e-5)
    plain = codec.model_copy(update={"background": None})
    np.testing.assert_array_equal(np.asarray(encoded)[inside], np.asarray(plain.encode(kind(values)))[inside])


@pytest.mark.parametrize("codec", [ZScore(over="body"), PercentileWindow(over="body"), DeviationWindow(over="body")])
def test_the_body_is_found_slab_by_slab(codec):
    values, _ = head(lambda rng, shape: np.zeros(shape))
    asked = []

    def slab(start, stop):
        asked.append((start, stop))
        return values[None, start:stop]

    lazy = image(values).with_array(ComputedArray((1, *values.shape), np.float32, slab))
    assert codec.bind(lazy) == codec.bind(image(values))
    assert asked == [(index, index + 1) for index in range(5)] * 2
