"""Sizes that papers print for the data sets which they prepared, to hold a prepared one against."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Published:
    """A data set's size in the papers."""

    users: int
    items: int
    interactions: int


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "baby": Published(19_445, 7_050, 160_792),
        "sports": Published(35_598, 18_357, 296_337),
        "clothing": Published(39_387, 23_033, 278_677),
        "pet": Published(19_856, 8_510, 157_836),
        "office": Published(4_905, 2_420, 53_258),
    }
)
"""5-cores of Amazon's categories (2014) by the name that the papers use."""
