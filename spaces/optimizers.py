"""One row per optimizer.

The papers on training strategies print no grid for their optimizer: all train with Adam at 1e-3 (strategies.md §2), so
`paper` fixes the learning rate; where a model's published grid includes it, the model's row says so. `extended`
searches it, because a comparison is fair only where every arm may tune its own.
"""

from spaces.params import Fixed, Float
from spaces.row import Row
from spaces.space import SearchSpace

ADAM = Row(
    summary="Adam with betas (0.9, 0.999)",
    source="Kingma and Ba, ICLR 2015; learning rate of enoche/MMRec@e775373, overall.yaml",
    defaults={"learning_rate": 1e-3, "weight_decay": 0.0},
    paper=SearchSpace({"optimizer.learning_rate": Fixed(value=1e-3)}),
    extended=SearchSpace({"optimizer.learning_rate": Float(low=1e-4, high=1e-2, log=True)}),
)

SGD = Row(
    summary="stochastic gradient descent with momentum",
    source="no published grid in this field; `paper` fixes our default",
    defaults={"learning_rate": 1e-2, "momentum": 0.0, "weight_decay": 0.0},
    paper=SearchSpace({"optimizer.learning_rate": Fixed(value=1e-2)}),
    extended=SearchSpace({"optimizer.learning_rate": Float(low=1e-3, high=10.0, log=True)}),
)

OPTIMIZERS: dict[str, Row] = {"adam": ADAM, "sgd": SGD}
