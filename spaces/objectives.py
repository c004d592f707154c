"""One row per objective: what a batch's loss is."""

from spaces.params import Choice, Fixed, Float
from spaces.row import Row
from spaces.space import SearchSpace

_SOURCE = (
    "Variational Information Bottleneck Distillation, WWW 2025; settings of the paper, strategies.md §6.1 and §11.1"
)
_PAPER_GAMMA_D = Choice(values=(0.5, 0.1, 0.01))
_GAMMA_D = Float(low=1e-3, high=0.5, log=True)

PLAIN = Row(
    summary="the model's own loss",
    source="none needed; nothing to tune",
    defaults={},
    paper=SearchSpace(),
    extended=SearchSpace(),
)

DVIB_C = Row(
    summary="adds the loss of a pass with constant Gaussian noise on H, and a distillation between the two passes",
    source=_SOURCE,
    defaults={
        "gamma_0": 1.0,
        "gamma_d": 0.1,
        "sigma": 5e-4,
        "distill": "js",
        "combine": "sum",
        "distill_rows": 512,
    },
    paper=SearchSpace(
        {
            "objective.gamma_0": Fixed(value=1.0),
            "objective.gamma_d": _PAPER_GAMMA_D,
            "objective.sigma": Choice(values=(1e-3, 5e-4, 1e-4)),
        }
    ),
    # Noise of the published size changes nothing measurable (strategies.md §6.3), so the range goes up to 0.3.
    extended=SearchSpace(
        {
            "objective.gamma_0": Fixed(value=1.0),
            "objective.gamma_d": _GAMMA_D,
            "objective.sigma": Float(low=1e-4, high=0.3, log=True),
        }
    ),
)

DVIB_A = Row(
    summary="dvib_c with a learned noise level per row, held to a prior of standard deviation prior_std",
    source=_SOURCE,
    defaults={
        "gamma_0": 1.0,
        "gamma_d": 0.1,
        "gamma_r": 1e-3,
        "prior_std": 0.5,
        "reg": "kl_std",
        "hidden_size": 32,
        "distill": "js",
        "combine": "sum",
        "distill_rows": 512,
    },
    paper=SearchSpace(
        {
            "objective.gamma_0": Fixed(value=1.0),
            "objective.gamma_d": _PAPER_GAMMA_D,
            "objective.gamma_r": Fixed(value=1e-3),
            "objective.prior_std": Fixed(value=0.5),
        }
    ),
    extended=SearchSpace(
        {
            "objective.gamma_0": Fixed(value=1.0),
            "objective.gamma_d": _GAMMA_D,
            "objective.gamma_r": Float(low=1e-4, high=1.0, log=True),
            "objective.prior_std": Float(low=0.3, high=1.0),
        }
    ),
)

OBJECTIVES: dict[str, Row] = {"plain": PLAIN, "dvib_c": DVIB_C, "dvib_a": DVIB_A}
