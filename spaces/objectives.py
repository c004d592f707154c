"""One row per objective: what a batch's loss is."""

from spaces.params import Choice, Fixed, Float, Value
from spaces.row import Row
from spaces.space import SearchSpace

_SOURCE = (
    "Variational Information Bottleneck Distillation, WWW 2025; settings of the paper, strategies.md §6.1 and §11.1"
)
_PAPER_GAMMA_D = Choice(values=(0.5, 0.1, 0.01))
_GAMMA_D = Float(low=1e-3, high=0.5, log=True)

_DISTILLATION: dict[str, Value] = {"gamma_d": 0.1, "distill_rows": 512, "distill_items": "all"}
_DVIB: dict[str, Value] = {
    **_DISTILLATION,
    "gamma_0": 1.0,
    "distill": "js",
    "combine": "sum",
    "stop_gradient": "none",
    "noise": "gaussian",
    "dropout": 0.1,
}

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
    defaults={**_DVIB, "sigma": 5e-4},
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
        **_DVIB,
        "gamma_r": 1e-3,
        "prior_std": 0.5,
        "reg": "kl_std",
        "alpha_0": 1.0,
        "beta_0": 1.0,
        "hidden_size": 32,
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

AMR = Row(
    summary="adds the loss at modality features that an adversary has moved by epsilon, row by row",
    source="Tang et al., IEEE TKDE 2020; no grid is published, this one is ours (strategies.md §7)",
    defaults={
        "epsilon": 0.1,
        "epsilon_scale": "relative",
        "adversarial_weight": 1.0,
        "adversary": "gradient",
        "warmup_epochs": 0,
    },
    paper=SearchSpace(
        {
            "objective.epsilon": Choice(values=(0.01, 0.05, 0.1, 0.5)),
            "objective.adversarial_weight": Choice(values=(0.1, 1.0)),
        }
    ),
    extended=SearchSpace(
        {
            "objective.epsilon": Float(low=1e-2, high=1.0, log=True),
            "objective.adversarial_weight": Float(low=0.1, high=2.0, log=True),
        }
    ),
    uses_features=True,
)

ENTROPY = Row(
    summary="the control for DVIB: its penalty on certain predictions alone, without a perturbed pass",
    source="none: a control (strategies.md §6.3); gamma_d as in DVIB's grid",
    defaults=_DISTILLATION,
    paper=SearchSpace({"objective.gamma_d": _PAPER_GAMMA_D}),
    extended=SearchSpace({"objective.gamma_d": _GAMMA_D}),
)

OBJECTIVES: dict[str, Row] = {"plain": PLAIN, "dvib_c": DVIB_C, "dvib_a": DVIB_A, "amr": AMR, "entropy": ENTROPY}
