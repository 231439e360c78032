"""Options of systems and those of commands, of the data and of the training: no two have one name."""

import dataclasses

import pytest

from ganatomy import catalogue
from ganatomy.cli import study, train
from ganatomy.data.cases import DataConfig
from ganatomy.inference.runfile import TrainConfig

COMMON = {*DataConfig.model_fields, *TrainConfig.model_fields}


@pytest.mark.parametrize("command", [train, study])
@pytest.mark.parametrize("slug", [system.slug for system in catalogue.ready()])
def test_no_option_of_a_system_is_one_of_a_command(slug, command):
    # The options of roles are given by the names of the roles.
    own = set(catalogue.load(slug).Config.model_fields) - {"roles"}
    general = {field.name for field in dataclasses.fields(command.Choice)}
    assert not own & (general | COMMON), "choose another name for the option of the system or of the command"
    assert not general & COMMON


def test_the_options_of_a_study_are_listed_for_a_system_with_options_like_theirs(capsys):
    with pytest.raises(SystemExit) as stop:
        study.run(["vess2ret", "--help"])
    assert not stop.value.code and "--updates" in capsys.readouterr().out
