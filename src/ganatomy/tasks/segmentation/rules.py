"""Rules by which objects are made from the probability of their inside."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Separate = Literal["components", "watershed"]


class ObjectRules(BaseModel):
    """Rules by which the objects of an instance map are made from the probability of their inside."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    separate: Separate = "components"  # components that touch by faces, or basins of the distance to the background
    apart: int = Field(5, ge=1)  # watershed: smallest distance in pixels between the middles of two objects
    holes: bool = True  # whether holes are filled before objects are separated
    smallest: int = Field(0, ge=0)  # objects of fewer pixels are removed
    border: bool = True  # whether objects at the border of a slice are kept
    grow: int = Field(0, ge=0)  # steps to all neighbours by which objects are enlarged at the end, where there is room
