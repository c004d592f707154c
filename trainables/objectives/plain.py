"""The model's own loss."""

from trainables.models.base import Recommender
from trainables.objectives.base import Objective
from trainables.types import Batch, Losses


class Plain(Objective):
    """The model's own batch loss, unchanged."""

    def forward(self, model: Recommender, batch: Batch) -> Losses:
        return model.loss(model.extract(model.fuse(batch)), batch)
