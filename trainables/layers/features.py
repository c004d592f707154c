"""Trainable copies of modality features with a projection each, as BM3 and FREEDOM have them."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn


class ProjectedFeatures(nn.Module):
    """Per modality a trainable table initialised with the raw features [I, F], and a linear map F -> D.

    The table is trained like every weight (models.md §6, §7: `freeze=False` in MMRec), which is why these models have
    tens of millions of parameters on wide features.
    """

    def __init__(self, features: Mapping[str, np.ndarray], project: Callable[[int], nn.Linear]) -> None:
        super().__init__()
        self.names = tuple(features)
        self.tables = nn.ParameterList(torch.from_numpy(np.array(features[name])) for name in self.names)
        self.projections = nn.ModuleList(project(features[name].shape[1]) for name in self.names)

    def forward(self) -> dict[str, Float[Tensor, "I D"]]:
        """Projected features of all items by modality."""
        return {
            name: projection(table)
            for name, table, projection in zip(self.names, self.tables, self.projections, strict=True)
        }
