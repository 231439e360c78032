import errno

import pytest

from ganatomy.errors import Shortage, UserError, either, shortage


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "x.nii: too many open files; raise the limit"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (MemoryError(), "out of memory"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_a_file(error, words):
    found = shortage(error, "x.nii")
    assert isinstance(found, UserError)
    assert words in str(found)


def test_a_shortage_is_found_behind_the_error_of_a_library():
    with pytest.raises(ValueError, match="cannot open") as caught:
        try:
            raise OSError(errno.EMFILE, "Too many open files")
        except OSError as error:
            raise ValueError("cannot open it") from error
    assert isinstance(shortage(caught.value, "x"), Shortage)


@pytest.mark.parametrize("error", [ValueError("broken"), FileNotFoundError(errno.ENOENT, "none"), EOFError()])
def test_other_errors_are_no_shortage(error):
    assert shortage(error, "x") is None


def test_a_message_can_be_printed_whatever_the_name_of_its_file():
    assert str(UserError("caf\udce9.nii cannot be read")).encode() == b"caf\\udce9.nii cannot be read"


@pytest.mark.parametrize(
    ("words", "told"), [((), ""), ((".csv",), ".csv"), ((".csv", ".vtk"), ".csv or .vtk"), ("abc", "a, b or c")]
)
def test_choices_are_told_with_commas_and_or(words, told):
    assert either(words) == told
