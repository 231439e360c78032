import numpy as np
import pytest
import torch

from ganatomy.data.cases import DataConfig, discover, find_cases
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.methods.frameworks.dcgan import DCGAN
from ganatomy.roles.image import ImageOptions
from ganatomy.tasks.synthesis.task import Synthesis


def task(low=0.0, high=255.0, unit=None, classes=(), channels=1, size=(16, 16), **more):
    image = ImageOptions(window=(low, high), unit=unit, channels=channels)
    return Synthesis({"image": image}, size, classes=classes, phantom="liver-lesion", **more)


def small(**values):
    return DCGAN(DCGAN.Config.preset("small", size=(16, 16), stages=2, width=4, **values))


def test_images_of_all_sizes_become_one(tmp_path):
    for number, shape in enumerate([(20, 30), (16, 16), (64, 40)]):
        write(tmp_path / f"{number}.png", Image.from_array(np.random.default_rng(0).integers(0, 255, shape, np.uint8)))
    wanted = task()
    cases = find_cases(wanted, DataConfig(data=tmp_path, cache=tmp_path / "c"))
    prepared, problems = Store(wanted, tmp_path / "c").get_all(cases)
    assert not problems and [case.shape for case in prepared] == [(1, 16, 16)] * 3


def test_folders_are_labels(tmp_path):
    for label in ("normal", "sick", "other"):
        for number in range(3):
            image = Image.from_array(np.arange(256, dtype=np.uint8).reshape(16, 16))
            (tmp_path / label).mkdir(exist_ok=True)
            write(tmp_path / label / f"{number}.png", image)
    found = find_cases(task(classes=("sick", "normal")), DataConfig(data=tmp_path))
    assert sorted(case.label for case in found) == ["normal"] * 3 + ["sick"] * 3
    assert len({case.subject for case in found}) == 6, "a label is no patient"
    with pytest.raises(UserError, match=r"--classes nix: .* there are normal, other, sick"):
        find_cases(task(classes=("nix",)), DataConfig(data=tmp_path))


def test_a_manifest_may_carry_labels(tmp_path):
    image = Image.from_array(np.arange(256, dtype=np.uint8).reshape(16, 16))
    write(tmp_path / "a.png", image)
    write(tmp_path / "b.png", image)
    (tmp_path / "index.csv").write_text("image,patient,class,split\na.png,p1,cyst,train\nb.png,p2,,test\n")
    found = discover(task(), DataConfig(data=tmp_path))
    assert [(case.subject, case.label, case.split) for case in found] == [("p1", "cyst", "train"), ("p2", None, "test")]


def test_labels_of_phantoms_follow_their_number():
    labels = [case.label for case in find_cases(task(unit="HU", low=-100, high=300), DataConfig())]
    assert labels[:4] == ["cyst", "metastasis", "haemangioma", "cyst"]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.arange(256).reshape(16, 16) * 16.0, {}, r"values from 0 to 4080, but --image.window is 0 255; train with"),
        (np.arange(256).reshape(16, 16) / 256, {}, r"values from 0 to 0.99.*--image.window is 0 255"),
        (np.arange(256).reshape(16, 16) * 1.0, {"channels": 3}, r"1 channel, but .* works with 3 .* --image.channels"),
        (np.arange(256).reshape(16, 16) * 1.0, {"unit": "HU"}, r"cannot be HU"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_the_remedy(values, options, message):
    with pytest.raises(UserError, match=message):
        task(**options).frame({"image": Image.from_array(values.astype(np.float32))})


def test_a_picture_is_not_told_to_become_hu():
    picture = Image.from_array(np.arange(256, dtype=np.uint8).reshape(16, 16))
    with pytest.raises(UserError, match=r"is no CT.*--image.unit None and --image.window 0 255"):
        task(unit="HU", low=-100, high=300).frame({"image": picture})


def test_ct_is_not_seen_through_a_window_of_8_bits():
    ct = Image.from_array(np.linspace(-1000, 2000, 256, dtype=np.float32).reshape(16, 16), unit="HU")
    with pytest.raises(UserError, match=r"is in HU, but image has no unit: .* --image.unit HU and a --image.window"):
        task().frame({"image": ct})
    task(unit="HU", low=-100, high=300).frame({"image": ct})


def test_truncation_pulls_towards_the_centre():
    method = small()
    full, half = method.draw(range(5)), method.draw(range(5), truncation=0.5)
    torch.testing.assert_close(half, full / 2)
    assert full.abs().max() <= 1, "the prior is uniform"


def test_several_roles_are_made_together():
    method = small(images=("t2", "adc"), roles={"adc": {"window": (0, 3000), "channels": 1}, "t2": {"channels": 3}})
    assert list(method.task.roles) == ["t2", "adc"] and method.config.channels == 4
    assert method.task.phantom_parts(None) == {"t2": "t2", "adc": "adc"}
    joined = method.real({"adc": torch.ones(3, 1, 16, 16), "t2": torch.zeros(3, 3, 16, 16)})
    assert joined.shape == (3, 4, 16, 16) and joined[:, 3].eq(1).all() and joined[:, :3].eq(0).all()
    assert method.task.images["adc"].encoded(np.float32([0, 1500, 3000])).tolist() == [-1, 0, 1]


def test_a_role_that_is_missing_is_named():
    several = Synthesis({name: ImageOptions(unit=None, window=(0, 255)) for name in ("t2", "adc", "dwi")}, (16, 16))
    image = Image.from_array(np.arange(256, dtype=np.float32).reshape(16, 16))
    with pytest.raises(UserError, match="no adc or dwi image beside it"):
        several.frame({"t2": image})
    assert not several.frame({}).arrays, "nothing is needed to make images"


def test_folders_and_columns_are_called_like_the_roles(tmp_path):
    several = Synthesis({name: ImageOptions(unit=None, window=(0, 255)) for name in ("t2", "adc")}, (16, 16))
    image = Image.from_array(np.arange(256, dtype=np.uint8).reshape(16, 16))
    for place in ("t2/a.png", "t2/b.png", "adc/a.png"):
        write(tmp_path / place, image)
    (found,) = find_cases(several, DataConfig(data=tmp_path))
    assert list(found.sources) == ["t2", "adc"] and Store(several, tmp_path / "c").get(found).shape == (1, 16, 16)
    lesions = tmp_path / "lesions.csv"
    lesions.write_text("t2,adc,subject\nt2/a.png,adc/a.png,p1\nt2/b.png,,p2\n")
    with pytest.raises(UserError, match=r"lesions.csv line 3: no .* image"):
        find_cases(several, DataConfig(data=lesions))
    lesions.write_text("t2,subject\nt2/a.png,p1\n")
    with pytest.raises(UserError, match=r"needs the columns subject and t2 and adc \(others: label"):
        find_cases(several, DataConfig(data=lesions))


def test_a_phantom_plays_the_part_that_is_told():
    method = small(images=("flair",), phantom="brain-mr", flair={"part": "t2", "window": (0, 1200), "unit": "a.u."})
    assert method.task.phantom_parts(None) == {"flair": "t2"}
    with pytest.raises(UserError, match="--images data"):
        small(images=("data",))


def test_classes_are_a_role_of_their_own(tmp_path):
    named, plain = task(-100, 300, "HU", ("cyst", "metastasis")), task(-100, 300, "HU")
    data = DataConfig(phantom_subjects=4, phantom_size=16, cache=tmp_path)
    without, with_labels = (
        [Store(each, tmp_path).get(case) for case in find_cases(each, data)] for each in (plain, named)
    )
    assert named.required == ("image", "label") and plain.required == ("image",)
    assert [int(np.asarray(one.arrays["label"]).item()) for one in with_labels] == [0, 1, 0]
    assert all("label" not in one.arrays for one in without)
    turned = task(-100, 300, "HU", ("metastasis", "cyst"))
    assert [int(np.asarray(Store(turned, tmp_path).get(one.case).arrays["label"]).item()) for one in with_labels] == [
        *(1, 0, 1)
    ]


def test_images_are_filled_with_air_and_cut_nowhere():
    wide = Image.from_array(np.linspace(40, 200, 8 * 24).reshape(8, 24).astype(np.float32))
    framed = task(10.0, 255.0, fit="contain").frame({"image": wide})
    inside = np.asarray(framed.arrays["image"])[0, 0]
    assert inside.shape == (16, 16) and (inside[:5] == 10).all() and (inside[10:] == 10).all()
    assert inside[5:10].min() > 30
    whole = task(fit="patches").frame({"image": wide})
    assert whole.shape == (1, 8, 24)


def test_scores_tell_likeness_and_collapse():
    random = torch.Generator().manual_seed(0)
    real, other = (torch.rand(120, 1, 16, 16, generator=random) for _ in range(2))
    same = task().set_scores(real, other)
    far = task().set_scores(real, other * 0.3)
    collapsed = task().set_scores(real, other[:1].expand(120, -1, -1, -1))
    assert abs(same["kernel distance@random"]) < 0.2 * far["kernel distance@random"]
    assert collapsed["variety"] < 0.05 < 0.5 < same["variety"] < 2


def test_slices_are_scored_as_sets_in_physical_units():
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 255, (40, 16, 16)).astype(np.float32)
    found = task().scores({"image": values[:20]}, {"image": values[20:]}, (1.0, 1.0, 1.0))
    encoded = torch.from_numpy(values)[:, None] / 127.5 - 1
    assert found == pytest.approx(task().set_scores(encoded[20:], encoded[:20]), abs=1e-6)
