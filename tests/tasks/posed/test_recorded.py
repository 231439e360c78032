"""Cases, scores, sentences and pictures against those in tests/fixtures/pages, which tests/pages.py records."""

import pages


def test_the_page_is_as_recorded():
    differences = pages.differences("scgan-us")
    assert differences == [], "if it is meant to differ, run tests/pages.py and look through what changes"
