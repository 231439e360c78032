import numpy as np
import pytest
import torch

from ganatomy.data.cases import DataConfig, discover, find_cases
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.methods.frameworks.dcgan import DCGAN
from ganatomy.tasks.synthesis.task import Synthesis


def task(low=0.0, high=255.0, unit=None, classes=(), channels=1, size=(16, 16)):
    window = Window(low=low, high=high, unit=unit)
    return Synthesis({"image": window}, size, channels={"image": channels}, classes=classes, phantom="liver-lesion")


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
        (np.arange(256).reshape(16, 16) * 16.0, {}, r"values from 0 to 4080, but --window is 0 255; train with"),
        (np.arange(256).reshape(16, 16) / 256, {}, r"values from 0 to 0.99.*--window is 0 255"),
        (np.arange(256).reshape(16, 16) * 1.0, {"channels": 3}, r"1 channels, but the system works with 3; add --chan"),
        (np.arange(256).reshape(16, 16) * 1.0, {"unit": "HU"}, r"cannot be HU"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_the_remedy(values, options, message):
    with pytest.raises(UserError, match=message):
        task(**options).prepare({"image": Image.from_array(values.astype(np.float32))}, 0)


def test_an_image_depends_on_its_seed_alone():
    method = small().inference_mode()
    many, two = method.images(range(10, 50), batch=8), method.images([30, 11])
    torch.testing.assert_close(two, many[[20, 1]], rtol=1e-5, atol=1e-6)
    assert not torch.equal(many[0], many[1])


def test_truncation_pulls_towards_the_centre():
    method = small()
    full, half = method.draw(range(5)), method.draw(range(5), truncation=0.5)
    torch.testing.assert_close(half, full / 2)
    assert full.abs().max() <= 1, "the prior is uniform"


def test_several_roles_are_made_together():
    windows = {"t2": Window(low=0, high=500, unit=None), "adc": Window(low=0, high=3000, unit=None)}
    method = small(channels=2)
    type(method).task, kept = property(lambda self: Synthesis(windows, (16, 16))), type(method).task
    try:
        found = method.decoded(torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)], dim=1))
        joined = method.real({"t2": torch.zeros(3, 1, 16, 16), "adc": torch.ones(3, 1, 16, 16)})
    finally:
        type(method).task = kept
    assert found["t2"].mean() == 250 and found["adc"].mean() == 3000 and found["adc"].shape == (3, 1, 16, 16)
    assert joined.shape == (3, 2, 16, 16)


def test_scores_tell_likeness_and_collapse():
    random = torch.Generator().manual_seed(0)
    real, other = (torch.rand(120, 1, 16, 16, generator=random) for _ in range(2))
    same = task().scores(real, other)
    far = task().scores(real, other * 0.3)
    collapsed = task().scores(real, other[:1].expand(120, -1, -1, -1))
    assert abs(same["kernel distance@random"]) < 0.2 * far["kernel distance@random"]
    assert collapsed["variety"] < 0.05 < 0.5 < same["variety"] < 2
