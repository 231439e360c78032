import re

import pytest

from ganatomy.errors import UserError
from ganatomy.roles.options import RESERVED, check_role_name


@pytest.mark.parametrize("name", ["mr", "t1c", "T1", "image", "vessels_2", "Größe"])
def test_names_of_the_field_are_taken(name):
    check_role_name(name, "source", {"source", "target"})


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("t1-c", "t1_c"),
        ("t1 + c", "t1_c"),
        ("2d", "image_2d"),
        ("", "image"),
        ("-", "image"),
        ("class", "class_image"),
        ("data", "data_image"),
        ("label", "label_image"),
        ("source", "source_image"),
    ],
)
def test_names_that_cannot_be_options_are_refused_with_one_that_can(name, usable):
    with pytest.raises(UserError, match=rf"--source {re.escape(name)}: .*call it {usable}, say") as error:
        check_role_name(name, "source", {"source", "target"})
    assert "\n" not in str(error.value)
    check_role_name(usable, "source", {"source", "target"})


def test_a_suggestion_has_the_word_of_its_kind():
    with pytest.raises(UserError, match=r"--labels-of class: .*call it class_map, say"):
        check_role_name("class", "labels_of", (), "map")


def test_columns_of_manifests_are_no_roles():
    from ganatomy.data.tables import LABEL_COLUMNS, SUBJECT_COLUMNS

    assert {*SUBJECT_COLUMNS, *LABEL_COLUMNS, "split"} - {"class"} <= RESERVED
