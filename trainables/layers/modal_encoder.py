"""The encoder that DualGNN and DRAGON share: content of items and preferences of users, modality by modality."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from torch import Tensor, nn

from trainables.layers.features import FrozenFeatures, project_rows
from trainables.layers.propagation import SparseOperator, light_propagation
from trainables.layers.tensors import linear_default, rows, unit_rows, xavier_normal


class ModalEncoder(nn.Module):
    """Per modality the sum of layers 0..L of Âˡ [P; Y], where users' preferences P and items' content Y have unit rows.

    P [U, D] is free, Y = W2 lrelu(W1 F + b1) + b2 [I, D] comes from the modality's constant features F (models.md §10).
    """

    def __init__(
        self,
        features: Mapping[str, np.ndarray],
        num_users: int,
        sizes: tuple[int, int],
        num_layers: int,
        generator: torch.Generator,
    ) -> None:
        """Draws the weights.

        Args:
            sizes: width of the perceptron's hidden layer, and of its output, D.
            num_layers: L.
        """
        super().__init__()
        self.num_layers = num_layers
        self.features = FrozenFeatures(features)
        hidden, output = sizes
        widths = [features[name].shape[1] for name in self.features.names]
        self.preferences = nn.ParameterList(xavier_normal(num_users, output, generator) for _ in widths)
        self.inner = nn.ModuleList(linear_default(width, hidden, generator) for width in widths)
        self.outer = nn.ModuleList(linear_default(hidden, output, generator) for _ in widths)

    def contents(self) -> dict[str, Float[Tensor, "I D"]]:
        """Y by modality, before its rows are normalised."""
        contents = {}
        for name, inner, outer in zip(self.features.names, self.inner, self.outer, strict=True):
            hidden = F.leaky_relu(project_rows(self.features[name], inner, None))  # [I, hidden]
            contents[name] = project_rows(hidden, outer, None)
        return contents

    def forward(
        self, contents: Mapping[str, Float[Tensor, "I D"]], graph: SparseOperator
    ) -> tuple[list[Float[Tensor, "U D"]], list[Float[Tensor, "I D"]]]:
        """The representations of all users and of all items, each a list over the modalities.

        Args:
            graph: R̂ [U, I], the user-item half of the symmetric adjacency Â.
        """
        users, items = [], []
        for name, preference in zip(self.features.names, self.preferences, strict=True):
            means = light_propagation(graph, unit_rows(preference), unit_rows(contents[name]), self.num_layers)
            users.append(means[0] * (self.num_layers + 1))
            items.append(means[1] * (self.num_layers + 1))
        return users, items

    def preference_penalty(self, users: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Sum over modalities of the mean square of the given users' preferences."""
        return torch.stack([rows(preference, users).square().mean() for preference in self.preferences]).sum()


def modality_weights(num_rows: int, num_modalities: int, generator: torch.Generator) -> nn.Parameter:
    """A parameter [num_rows, num_modalities] whose rows add up to 1 at first: the softmax of a Glorot-normal draw."""
    return nn.Parameter(xavier_normal(num_rows, num_modalities, generator).detach().softmax(dim=1))


def weighted_parts(parts: Sequence[Float[Tensor, "U D"]], weights: Float[Tensor, "U M"]) -> list[Float[Tensor, "U D"]]:
    """Every modality's rows, each times its own weight."""
    return [part * weight[:, None] for part, weight in zip(parts, weights.unbind(1), strict=True)]
