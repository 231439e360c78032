import numpy as np
import pytest

from ganatomy.case import Case, Sample
from ganatomy.errors import UserError
from ganatomy.evaluation.illustrations import Grounds, caption, examples, most_to_see, runs, strip, tissue_window
from ganatomy.evaluation.judging import Entry, Judgement, Scores
from ganatomy.images.image import Header, Image, RasterMeaning


def judgement(names):
    cases = [
        Sample(Case(name, name, "test", {}), {"input": np.zeros((1, 7, 2, 3))}, {"input": np.eye(4)}, {})
        for name in names
    ]
    return Judgement([], cases, Scores([]))


@pytest.mark.parametrize(
    ("ranked", "order", "expected"),
    [
        ({"p": 3, "q": 1, "r": 2, "s": 9}, ("Median", "Worst", "Best"), {"Median": "r", "Worst": "q", "Best": "s"}),
        ({"p": 3, "q": 1, "r": 2, "s": 9}, ("Best", "Worst"), {"Best": "s", "Worst": "q"}),
        ({"p": 3, "q": 1}, ("Worst", "Median", "Best"), {"Worst": "q", "Best": "p"}),
        ({"p": 3, "q": 1}, ("Median", "Worst", "Best"), {"Median": "q", "Best": "p"}),
        ({"p": 3}, ("Median", "Worst", "Best"), {"Only": "p"}),
        ({}, ("Median", "Worst", "Best"), {}),
    ],
)
def test_every_case_is_shown_once_under_its_first_label(ranked, order, expected):
    found = examples(judgement("pqrs"), ranked, order)
    assert [(label, one.case.name) for label, one in found.items()] == list(expected.items())


def test_a_caption_says_which_case_and_slice():
    whole = judgement(["p", "q"])
    assert caption("Worst", whole.cases[0], whole, "PSNR") == "Worst of 2 cases by PSNR: p, slice 4 of 7."
    assert caption("Only", whole.cases[1], whole, "PSNR", plane=0) == "The only case: q, slice 1 of 7."
    assert caption("Best", placed(Image.from_array(np.zeros((4, 3)))), whole, "PSNR") == "Best of 2 cases by PSNR: p."


def placed(image, **roles):
    """Return a case of a source that opens as an image."""
    source = type("Source", (), {"open": lambda self: image})()
    arrays = {"image": image.array, **roles}
    return Sample(Case("p", "p", "test", {"image": source}), arrays, dict.fromkeys(arrays, image.affine), {})


def test_the_slice_with_the_most_structure_is_shown_first_and_noise_is_none():
    rng = np.random.default_rng(0)
    volume = rng.normal(0, 3, (1, 9, 96, 80)).astype(np.float32)
    volume[0, 6, 20:70, 10:60] += 100
    volume[0, 6, 30:60, 20:50] -= 50
    volume[0, 2, 40:50, 30:40] += 100
    assert most_to_see(placed(Image.from_array(volume))) == 6
    assert most_to_see(placed(Image.from_array(np.zeros((1, 9, 8, 6))))) == 4


def test_windows_fit_tissue_and_leave_air_out():
    ct = np.full((64, 48), -1000.0)
    ct[16:48, 10:38] = np.linspace(-100, 300, 32 * 28).reshape(32, 28)
    low, high = tissue_window(ct, (-1000.0, 2000.0))
    assert -150 < low < -100 and 290 < high <= 300
    mr = np.zeros((64, 48))
    mr[16:48, 10:38] = np.linspace(100, 800, 32 * 28).reshape(32, 28)
    mr[0, 0] = 4000
    assert tissue_window(mr, (0.0, 1200.0)) == (0.0, pytest.approx(797, abs=3))
    assert tissue_window(np.zeros((64, 48)), (0.0, 1200.0)) == (0.0, 1200.0)


@pytest.mark.parametrize(
    ("header", "spacing", "sized", "sided"),
    [
        (Header("raster", colours=True), (1, 1, 1), False, False),
        (Header("raster", meaning=RasterMeaning(pixel_mm=0.02)), (1, 0.02, 0.02), True, False),
        (Header("nifti"), (3, 1, 1), True, True),
        (Header("dicom", frame_of_reference="1.2"), (3, 0.7, 0.8), True, True),
        (Header("dicom"), (1, 0.2, 0.2), True, False),
        (Header("dicom", unspaced=True), (1, 1, 1), False, False),
        (Header("array"), (1, 1, 1), False, False),
        (Header("array", modality="CT"), (3, 0.7, 0.8), True, True),
    ],
)
def test_scale_bars_and_letters_need_a_stated_size_and_place(header, spacing, sized, sided):
    found = Grounds.of(placed(Image.from_array(np.zeros((2, 6, 4)), spacing, header=header)))
    assert found.sized == sized and (found.affine is not None) == sided


def test_nothing_is_known_of_a_source_that_is_gone():
    def gone(self):
        raise UserError("removed")

    case = placed(Image.from_array(np.zeros((2, 6, 4)), (3, 2, 1)))
    case.case.sources["image"].__class__.open = gone
    assert Grounds.of(case) == Grounds()


def colour_case():
    rng = np.random.default_rng(3)
    header = Header("raster", colours=True)
    true = rng.uniform(0, 255, (3, 1, 40, 56)).astype(np.float32)
    return placed(Image.from_array(true, header=header), input=true.mean(0, keepdims=True).repeat(3, 0)), true


def test_three_channels_are_shown_in_colour_without_millimetres():
    case, true = colour_case()
    entries = [
        Entry("input", lambda case, *_: case.arrays["input"][:, 0]),
        Entry("output", lambda *_: true[:, 0] * 0.5),
    ]
    entries.append(Entry("target", lambda *_: true[:, 0]))
    whole = Judgement(entries, [case], Scores([]))
    found = strip(entries, case, whole, "psnr", (0.0, 255.0), differences=("output",))
    first, second, third = (np.asarray(axes.images[0].get_array()) for axes in found.figure.axes[:9:3])
    assert first.shape == second.shape == third.shape == (40, 56, 3)
    assert third == pytest.approx(np.moveaxis(true[:, 0], 0, -1) / 255) and second == pytest.approx(third / 2)
    texts = [text.get_text() for text in [*found.figure.texts, *(t for axes in found.figure.axes for t in axes.texts)]]
    assert not any("mm" in text for text in texts)
    stack = found.stack()
    assert [panel.name for panel in stack.panels] == ["input", "output", "target", "output − target"]
    assert {layer.kind for layer in stack.layers.values()} == {"colour"} and not stack.sized and stack.affine is None


def test_the_stack_holds_what_the_entries_compute_slice_by_slice():
    rng = np.random.default_rng(5)
    volume = rng.uniform(0, 1000, (1, 40, 24, 18)).astype(np.float32)
    case = placed(Image.from_array(volume, (3, 1, 2), header=Header("nifti")))
    asked = []

    def run(case, start, stop):
        asked.append((start, stop))
        return case.arrays["image"][0, start:stop] + 1

    entries = [Entry("output", run), Entry("target", lambda case, start, stop: case.arrays["image"][0, start:stop])]
    stack = strip(entries, case, Judgement(entries, [case], Scores([])), "psnr", (0.0, 1000.0), "a.u.").stack()
    assert stack.first in stack.numbers and len(stack.numbers) == 20 and stack.total == 40
    for name, more in (("output", 1), ("target", 0)):
        for number, one in zip(stack.numbers, stack.layers[name].slices, strict=True):
            assert np.array_equal(one, volume[0, number] + more), (name, number)
    assert runs([1, 2, 3, 7, 8, *range(20, 30)]) == [(1, 4), (7, 9), (20, 28), (28, 30)]
