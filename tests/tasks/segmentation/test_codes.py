"""Label values of the BRATS challenges by year, and what does not fit them."""

import numpy as np
import pytest
from levels import Levels, case, random_images

from ganatomy import catalogue
from ganatomy.cli.options import parse, settled, with_roles
from ganatomy.errors import UserError
from ganatomy.tasks.segmentation.codes import code_of, named_regions, other_code

REGIONS = {
    2012: {"whole": (1, 2, 3, 4), "core": (1, 3, 4), "enhancing": (4,)},
    2016: {"whole": (1, 2, 3, 4), "core": (1, 3, 4), "enhancing": (4,)},
    2017: {"whole": (1, 2, 4), "core": (1, 4), "enhancing": (4,)},
    2022: {"whole": (1, 2, 4), "core": (1, 4), "enhancing": (4,)},
    2023: {"whole": (1, 2, 3), "core": (1, 3), "enhancing": (3,)},
}


@pytest.mark.parametrize("year", REGIONS)
def test_every_year_has_its_code(year):
    assert named_regions(f"brats-{year}") == code_of(year).regions == REGIONS[year]
    classes = named_regions({f"brats-{year}-classes": ()})
    assert classes["background"] == (0,) and classes["enhancing"] == REGIONS[year]["enhancing"]
    assert sorted(label for own in classes.values() for label in own) == [0, *REGIONS[year]["whole"]]
    core = sorted(label for name, own in classes.items() if name not in ("background", "oedema") for label in own)
    assert core == sorted(REGIONS[year]["core"])


def test_a_code_is_an_option_of_the_command_line_and_of_python():
    kind, default = with_roles(catalogue.load("segan").Config.preset("small"))
    words = ["--regions", "brats-2015-classes", "--judged", "brats-2015"]
    config = settled(catalogue.load("segan").Config, parse(kind, words, "train", default))
    assert config.regions["nonenhancing"] == (3,) and config.judged == REGIONS[2012]
    assert Levels(regions="brats-2023").config.regions == REGIONS[2023]
    assert Levels(regions={"tumour": (1, 3)}).config.regions == {"tumour": (1, 3)}


def test_names_that_are_no_code_are_refused():
    with pytest.raises(UserError, match=r"brats-2011: label values are known for the years 2012 to 2023; name the"):
        named_regions("brats-2011")
    with pytest.raises(UserError, match=r"--regions brast-2017: a region has at least one label.*such as brats-2017"):
        Levels(regions="brast-2017").build_task()
    with pytest.raises(UserError, match="--regions brats-2017: a region has at least one label"):
        Levels(regions={"brats-2017": (), "more": (7,)}).build_task()


@pytest.mark.parametrize(("regions", "labels"), [("brats-2017", (1, 3)), ("brats-2023", (2, 4))])
def test_labels_that_a_code_does_not_have_are_refused(regions, labels):
    method = Levels(regions=regions)
    truth = np.zeros((5, 7, 6), np.uint8)
    truth[1, 2, :2] = labels
    with pytest.raises(UserError, match=f"label {labels[1]}, but tumour has"):
        np.asarray(case(method.task, **random_images("t1", "t2"), tumour=truth).arrays["tumour"])


@pytest.mark.parametrize("regions", ["brats-2013", "brats-2013-classes"])
def test_labels_of_2023_do_not_pass_for_those_of_2013(regions):
    method = Levels(regions=regions, classes=regions.endswith("classes"))
    truth = np.zeros((5, 7, 6), np.uint8)
    truth[1, 2, :3] = 1, 2, 3
    recent, old = (case(method.task, **random_images("t1", "t2"), tumour=one) for one in (truth, truth + (truth == 3)))
    with pytest.raises(
        UserError, match="tumour has 3 and no 4, which is the code since 2023; give --regions brats-2023"
    ):
        method.check_samples([recent])
    assert method.check_samples([recent, old]) == ()
    assert not any("code" in told for told in method.check_samples([old]))


def test_regions_of_ones_own_follow_no_code():
    assert other_code({"whole": (1, 2, 3, 4)}, {1, 2, 3}) is None
    assert other_code(code_of(2017).regions, {1, 2, 3}) is None
