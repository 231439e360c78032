"""The digest of the code that results rest on."""

from dataclasses import replace

import pytest

from ganatomy.claims.code import claim_digest
from ganatomy.claims.decide import find_claim
from ganatomy.claims.reproduction import arms_of


def digest(slug):
    claim = find_claim(slug)
    return claim_digest(claim, arms_of(claim, "small"))


@pytest.mark.parametrize(
    ("module", "was", "now", "changed"),
    [
        ("ganatomy.methods.frameworks.pix2pix", "l1_weight: float = 100.0", "l1_weight: float = 99.0", True),
        ("ganatomy.nets.unet", "image = self.up[0](skips.pop())", "image = -self.up[0](skips.pop())", True),
        ("ganatomy.nets.unet", "return self.head(image)", "return -self.head(image)", False),
        ("ganatomy.metrics.sharpness", "return", "pass;return", True),
        ("ganatomy.tasks.translation.judge", "return", "pass;return", True),
        ("ganatomy.phantoms.brain", "return", "pass;return", True),
        ("ganatomy.phantoms.skin", "return", "pass;return", False),
        ("ganatomy.methods.frameworks.srgan", "return", "pass;return", False),
        ("ganatomy.nets.unet", "import torch", "import torch  # a comment\n\n", False),
        ("ganatomy.nets.unet", '"""Map', '"""Other words. Map', False),
    ],
)
def test_what_a_result_rests_on_changes_the_digest(edited, module, was, now, changed):
    before = digest("pix2pix")
    edited(module, was, now)
    assert (digest("pix2pix") != before) == changed


def test_another_part_or_arm_of_a_claim_changes_the_digest():
    claim = find_claim("pix2pix")
    arms = arms_of(claim, "small")
    fewer = replace(claim, predicates=claim.predicates[:-1])
    other = replace(claim, arms={"pix2pix": {"l1_weight": 7.0}, "l1": claim.arms["l1"]})
    said = replace(claim, words="Other words.")
    digests = [claim_digest(one, arms) for one in (claim, fewer, other, said)]
    assert len(set(digests)) == 3 and digests[0] == digests[3]
