"""One row per optimizer.

The papers on training strategies print no grid for their optimizer: all train with Adam at 1e-3 (strategies.md §2), so
`paper` fixes the learning rate; where a model's published grid includes it, the model's row says so. `extended`
searches it, because a comparison is fair only where every arm may tune its own.
"""

from collections.abc import Mapping

from spaces.params import Fixed, Float, Value
from spaces.row import Row
from spaces.space import SearchSpace

_COMMON: Mapping[str, Value] = {"decay": 1.0, "decay_epochs": 50, "weight_decay": 0.0, "clip_norm": 0.0}
_NO_GRID = "no published grid in this field; `paper` fixes our default"

ADAM = Row(
    summary="Adam with betas (0.9, 0.999)",
    source="Kingma and Ba, ICLR 2015; learning rate of enoche/MMRec@e775373, overall.yaml",
    defaults={"learning_rate": 1e-3, **_COMMON},
    paper=SearchSpace({"optimizer.learning_rate": Fixed(value=1e-3)}),
    extended=SearchSpace({"optimizer.learning_rate": Float(low=1e-4, high=1e-2, log=True)}),
)

RMSPROP = Row(
    summary="RMSprop: steps divided by the root of the running mean square",
    source=f"Tieleman and Hinton, 2012; {_NO_GRID}",
    defaults={"learning_rate": 1e-3, **_COMMON, "smoothing": 0.99, "momentum": 0.0},
    paper=SearchSpace({"optimizer.learning_rate": Fixed(value=1e-3)}),
    extended=SearchSpace({"optimizer.learning_rate": Float(low=1e-4, high=1e-2, log=True)}),
)

ADAGRAD = Row(
    summary="Adagrad: steps divided by the root of the sum of squares so far",
    source=f"Duchi et al., JMLR 2011; {_NO_GRID}",
    defaults={"learning_rate": 1e-2, **_COMMON, "initial_accumulator": 0.0},
    paper=SearchSpace({"optimizer.learning_rate": Fixed(value=1e-2)}),
    extended=SearchSpace({"optimizer.learning_rate": Float(low=1e-3, high=1.0, log=True)}),
)

SGD = Row(
    summary="stochastic gradient descent with momentum",
    source=_NO_GRID,
    defaults={"learning_rate": 1e-2, **_COMMON, "momentum": 0.0},
    paper=SearchSpace({"optimizer.learning_rate": Fixed(value=1e-2)}),
    extended=SearchSpace({"optimizer.learning_rate": Float(low=1e-3, high=10.0, log=True)}),
)

OPTIMIZERS: dict[str, Row] = {"adam": ADAM, "rmsprop": RMSPROP, "adagrad": ADAGRAD, "sgd": SGD}
