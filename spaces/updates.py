"""One row per update: how a batch moves the weights.

`paper` holds the grids that strategies.md §11.1 lists; where a paper prints no grid of its own, the row says whose it
is. `extended` holds the ranges of §14.6. They reach beyond the papers on purpose: on synthetic data the best radius was
five times the largest published one.
"""

from spaces.params import Choice, Fixed, Float, Int
from spaces.row import Row
from spaces.space import SearchSpace

_PAPER_RHO = Choice(values=(0.05, 0.10, 0.15, 0.20))
_PAPER_EMA_DECAY = Choice(values=(0.2, 0.4, 0.6, 0.8))
_PAPER_KAPPA = Choice(values=(0.2, 0.4, 0.6, 0.8))
_RHO = Float(low=0.01, high=2.0, log=True)
_EMA_DECAY = Float(low=0.0, high=0.95)
_KAPPA = Float(low=0.2, high=1.0)

_BSAM_SOURCE = "BSAM/BSAM+, TKDE 2025, doi 10.1109/TKDE.2025.3604242"
_SAM_SOURCE = f"Foret et al., ICLR 2021; the grid of rho is that of {_BSAM_SOURCE}"

DESCENT = Row(
    summary="plain gradient descent: one gradient and one step per batch",
    source="none needed; nothing to tune",
    defaults={},
    paper=SearchSpace(),
    extended=SearchSpace(),
)

MIRROR_GRADIENT = Row(
    summary="every beta-th batch steps down by alpha1 and back up by alpha2 = alpha2_ratio * alpha1",
    source="Zhong et al., WWW 2024; grid of Qrange-group/Mirror-Gradient@a28908d9, mg.yaml (1 x 3 x 1)",
    defaults={"alpha1": 1.0, "alpha2_ratio": 0.2, "beta": 3},
    paper=SearchSpace(
        {
            "update.alpha1": Fixed(value=1.0),
            "update.alpha2_ratio": Choice(values=(0.1, 0.2, 0.3)),
            "update.beta": Fixed(value=3),
        }
    ),
    # alpha1 stays fixed: it only rescales the learning rate of the mirror batches, which the optimizer's row searches.
    extended=SearchSpace(
        {
            "update.alpha1": Fixed(value=1.0),
            "update.alpha2_ratio": Float(low=0.0, high=0.9),
            "update.beta": Int(low=1, high=8),
        }
    ),
)

SAM = Row(
    summary="steps with the gradient found at distance rho uphill, on the same batch",
    source=_SAM_SOURCE,
    defaults={"rho": 0.10},
    paper=SearchSpace({"update.rho": _PAPER_RHO}),
    extended=SearchSpace({"update.rho": _RHO}),
)

SAM_PLUS = Row(
    summary="sam on one batch mixed with the plain gradient of a second one, kappa to 1 - kappa",
    source=_SAM_SOURCE + ", as is that of kappa",
    defaults={"rho": 0.10, "kappa": 0.6},
    paper=SearchSpace({"update.rho": _PAPER_RHO, "update.kappa": _PAPER_KAPPA}),
    extended=SearchSpace({"update.rho": _RHO, "update.kappa": _KAPPA}),
)

BSAM = Row(
    summary="sam whose uphill direction has part of the gradients' moving average taken out",
    source=_BSAM_SOURCE,
    defaults={"rho": 0.10, "ema_decay": 0.6, "distance": "l1_relative"},
    paper=SearchSpace({"update.rho": _PAPER_RHO, "update.ema_decay": _PAPER_EMA_DECAY}),
    extended=SearchSpace({"update.rho": _RHO, "update.ema_decay": _EMA_DECAY}),
)

BSAM_PLUS = Row(
    summary="bsam on one batch mixed with the plain gradient of a second one, kappa to 1 - kappa",
    source=_BSAM_SOURCE,
    defaults={"rho": 0.10, "ema_decay": 0.6, "distance": "l1_relative", "kappa": 0.6},
    paper=SearchSpace(
        {"update.rho": _PAPER_RHO, "update.ema_decay": _PAPER_EMA_DECAY, "update.kappa": _PAPER_KAPPA},
    ),
    extended=SearchSpace({"update.rho": _RHO, "update.ema_decay": _EMA_DECAY, "update.kappa": _KAPPA}),
)

UPDATES: dict[str, Row] = {
    "descent": DESCENT,
    "mirror_gradient": MIRROR_GRADIENT,
    "sam": SAM,
    "sam_plus": SAM_PLUS,
    "bsam": BSAM,
    "bsam_plus": BSAM_PLUS,
}
