"""One row per update: how a batch moves the weights.

`paper` holds the grids that strategies.md §11.1 lists; where a paper prints no grid of its own, the row says whose it
is. `extended` holds the ranges of §14.6. They reach beyond the papers on purpose: on synthetic data the best radius was
five times the largest published one.
"""

from collections.abc import Mapping

from spaces.params import Choice, Fixed, Float, Int, Parameter, Value
from spaces.row import Row
from spaces.space import SearchSpace

_PAPER_RHO: Parameter = Choice(values=(0.05, 0.10, 0.15, 0.20))
_PAPER_EMA_DECAY: Parameter = Choice(values=(0.2, 0.4, 0.6, 0.8))
_PAPER_KAPPA: Parameter = Choice(values=(0.2, 0.4, 0.6, 0.8))
_RHO: Parameter = Float(low=0.01, high=2.0, log=True)
_EMA_DECAY: Parameter = Float(low=0.0, high=0.95)
_KAPPA: Parameter = Float(low=0.2, high=1.0)

_BSAM_SOURCE = "BSAM/BSAM+, TKDE 2025, doi 10.1109/TKDE.2025.3604242"
_SAM_SOURCE = f"Foret et al., ICLR 2021; the grid of rho is that of {_BSAM_SOURCE}"

_ASCENT: Mapping[str, Value] = {
    "rho": 0.10,
    "rho_schedule": "constant",
    "rho_schedule_epochs": 100,
    "rho_warmup_epochs": 0,
    "interval": 1,
    "draws": "same",
    "diagnose_every": 16,
}
"""Defaults of every member of the SAM family."""

_PLUS: Mapping[str, Value] = {"kappa": 0.6, "pairing": "consecutive"}
_PLUS_WITH_MEMORY: Mapping[str, Value] = {**_PLUS, "ema_batches": "first"}


def _plus(member: Row, name: str, added: Mapping[str, Value]) -> Row:
    """The row of a member's "+" form: its own numbers and the mixture's."""
    return Row(
        summary=f"{name} on one batch mixed with the plain gradient of a second one, kappa to 1 - kappa",
        source=f"{member.source}; the grid of kappa is that of {_BSAM_SOURCE}",
        defaults={**member.defaults, **added},
        paper=member.paper.union(SearchSpace({"update.kappa": _PAPER_KAPPA})),
        extended=member.extended.union(SearchSpace({"update.kappa": _KAPPA})),
    )


DESCENT = Row(
    summary="plain gradient descent: one gradient and one step per batch",
    source="none needed; nothing to tune",
    defaults={},
    paper=SearchSpace(),
    extended=SearchSpace(),
)

DOUBLE_BATCH = Row(
    summary="control of the _plus forms: plain steps on two batches at once, half as many",
    source="none needed; nothing to tune",
    defaults={},
    paper=SearchSpace(),
    extended=SearchSpace(),
)

EXTRA_STEPS = Row(
    summary="control of mirror_gradient: a further optimizer step, with the gradient 0, after every beta-th batch",
    source="beta as in mirror_gradient",
    defaults={"beta": 3, "second": "zero", "draws": "fresh"},
    paper=SearchSpace({"update.beta": Fixed(value=3)}),
    extended=SearchSpace({"update.beta": Int(low=1, high=8)}),
)

MIRROR_GRADIENT = Row(
    summary="every beta-th batch steps down by alpha1 and back up by alpha2 = alpha2_ratio * alpha1",
    source="Zhong et al., WWW 2024; grid of Qrange-group/Mirror-Gradient@a28908d9, mg.yaml (1 x 3 x 1)",
    defaults={
        "alpha1": 1.0,
        "alpha2_ratio": 0.2,
        "beta": 3,
        "mode": "official",
        "second_sign": 1,
        "draws": "fresh",
    },
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
    defaults=_ASCENT,
    paper=SearchSpace({"update.rho": _PAPER_RHO}),
    extended=SearchSpace({"update.rho": _RHO}),
)

ASAM = Row(
    summary="sam whose radius follows the size of each weight",
    source="Kwon et al., ICML 2021; no published grid in this field, strategies.md §4.2",
    defaults={**_ASCENT, "rho": 0.5, "eta": 0.01, "adaptive_on": "matrices"},
    # Multiples of the weights: ten times the radius of SAM and more.
    paper=SearchSpace({"update.rho": Choice(values=(0.1, 0.5, 1.0, 2.0))}),
    extended=SearchSpace({"update.rho": Float(low=0.05, high=5.0, log=True)}),
)

FISHER_SAM = Row(
    summary="sam in the ball of the batch's Fisher information",
    source=f"Kim et al., ICML 2022; the grid of rho is that of {_BSAM_SOURCE}",
    defaults={**_ASCENT, "eta": 1.0, "scale": "absolute", "norm": "fisher"},
    paper=SearchSpace({"update.rho": _PAPER_RHO}),
    # With mean-reduced losses g² is 1e-12 to 1e-8: eta must be as large as 1/g² to make a difference from sam.
    extended=SearchSpace({"update.rho": _RHO, "update.eta": Float(low=1.0, high=1e10, log=True)}),
)

FRIENDLY_SAM = Row(
    summary="sam along the part of the gradient that the moving average of earlier ones does not have",
    source=f"Li et al., CVPR 2024; grid as for bsam, of {_BSAM_SOURCE}",
    defaults={**_ASCENT, "sigma": 1.0, "ema_decay": 0.6, "ema": "previous"},
    paper=SearchSpace({"update.rho": _PAPER_RHO, "update.ema_decay": _PAPER_EMA_DECAY}),
    extended=SearchSpace({"update.rho": _RHO, "update.ema_decay": _EMA_DECAY}),
)

BSAM = Row(
    summary="sam whose uphill direction has part of the gradients' moving average taken out",
    source=_BSAM_SOURCE,
    defaults={
        **_ASCENT,
        "ema_decay": 0.6,
        "distance": "l1_relative",
        "constant": 1.0,
        "bias_correction": False,
        "mask_inactive_rows": False,
    },
    paper=SearchSpace({"update.rho": _PAPER_RHO, "update.ema_decay": _PAPER_EMA_DECAY}),
    extended=SearchSpace({"update.rho": _RHO, "update.ema_decay": _EMA_DECAY}),
)

GNP = Row(
    summary="sam's gradient mixed with the same batch's plain one, kappa to 1 - kappa",
    source="Zhao et al., ICML 2022: r = rho = 0.1, alpha = kappa = 0.8; no grid in this field",
    defaults={**_ASCENT, "kappa": 0.8, "pairing": "same_batch", "normalised": False},
    paper=SearchSpace({"update.rho": Fixed(value=0.1), "update.kappa": Fixed(value=0.8)}),
    extended=SearchSpace({"update.rho": _RHO, "update.kappa": _KAPPA}),
)

UPDATES: dict[str, Row] = {
    "descent": DESCENT,
    "double_batch": DOUBLE_BATCH,
    "extra_steps": EXTRA_STEPS,
    "mirror_gradient": MIRROR_GRADIENT,
    "sam": SAM,
    "sam_plus": _plus(SAM, "sam", _PLUS),
    "asam": ASAM,
    "asam_plus": _plus(ASAM, "asam", _PLUS),
    "fisher_sam": FISHER_SAM,
    "fisher_sam_plus": _plus(FISHER_SAM, "fisher_sam", _PLUS),
    "friendly_sam": FRIENDLY_SAM,
    "friendly_sam_plus": _plus(FRIENDLY_SAM, "friendly_sam", _PLUS_WITH_MEMORY),
    "bsam": BSAM,
    "bsam_plus": _plus(BSAM, "bsam", _PLUS_WITH_MEMORY),
    "gnp": GNP,
}
