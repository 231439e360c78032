"""Base class of roles whose values are intensities, which a codec maps to the range of the networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from ganatomy.case import Role
from ganatomy.images.codecs import Codec, OpticalDensity


@dataclass(frozen=True)
class ScaledRole(Role):
    """A role whose values are real numbers in physical units.

    Attributes:
        scale: codec from physical values to the range of the networks; None where values are taken as they are.
    """

    scale: Codec | None = None

    has_intensities: ClassVar[bool] = True

    @property
    def codec(self) -> Codec | None:
        """Codec from physical values to the range of the networks; None where values are taken as they are."""
        return self.scale

    @property
    def measured(self) -> bool:
        """Whether values mean something, such as CT numbers; those in arbitrary units or without one do not."""
        return self.scale is None or self.scale.unit not in (None, "a.u.") or isinstance(self.scale, OpticalDensity)

    @property
    def adaptive(self) -> bool:
        """Whether the codec computes its numbers from every value."""
        return self.scale is not None and self.scale.adaptive

    def bind(self, value: Any) -> Self:
        """Return the role with a codec that has the numbers of one value."""
        if self.scale is None:
            return self
        bound: Any = self.scale.bind(value)
        return replace(self, scale=bound)

    def numbers(self) -> Mapping[str, Any]:
        """Return the codec as values that JSON can hold."""
        return self.scale.model_dump(mode="json") if self.scale else {}

    def with_numbers(self, numbers: Mapping[str, Any]) -> Self:
        """Return the role with a codec made from numbers that `numbers` returned earlier."""
        return replace(self, scale=codec_of(numbers))

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """Return a patch as a tensor in the range of the networks."""
        tensor = super().tensor(patch, dims)
        encoded: Tensor = tensor if self.scale is None else self.scale.encode(tensor)
        return encoded

    def encoded(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Map physical values to the range of the networks."""
        numbers = np.asarray(values, np.float32)
        return numbers if self.scale is None else np.asarray(self.scale.encode(numbers), np.float32)

    def decoded(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map values in the range of the networks to physical values."""
        return tensor if self.scale is None else np.asarray(self.scale.decode(tensor), np.float32)

    def describe(self) -> dict[str, Any]:
        """Return the role as values that JSON can hold, with its codec."""
        return {**super().describe(), "codec": dict(self.numbers()) or None}


def codec_of(numbers: Mapping[str, Any]) -> Codec:
    """Return the codec from the plain values that its ``model_dump`` returned."""
    codec: Codec = TypeAdapter(Codec).validate_python(dict(numbers))
    return codec
