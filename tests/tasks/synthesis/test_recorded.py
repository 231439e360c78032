"""Cases, scores, sentences and pictures against those in tests/fixtures/pages, which tests/pages.py records."""

import pytest

import pages


@pytest.mark.parametrize("model", ["dcgan", "ac-gan", "prostate-lesion-dcgan", "retina-aae"])
def test_the_page_is_as_recorded(model):
    assert pages.differences(model) == [], "if it is meant to differ, run tests/pages.py and look through what changes"
