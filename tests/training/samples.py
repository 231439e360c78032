"""Samples made of arrays, for tests that need no files."""

from ganatomy.case import Case, Sample
from ganatomy.images.image import axial_affine
from ganatomy.roles.image import ImageRole


def sample_of(arrays, spacing=(1.0, 1.0, 1.0), *, name="case", subject=None, split="train", label=None,
              codecs=None, roles=None):  # fmt: skip
    """Make a prepared case whose roles are images, unless `roles` says otherwise."""
    codecs = codecs or {}
    kinds = {role: ImageRole(role, codecs.get(role), width=len(values)) for role, values in arrays.items()}
    case = Case(name, subject or name, split, {}, label)
    return Sample(case, arrays, dict.fromkeys(arrays, axial_affine(spacing)), {**kinds, **(roles or {})})
