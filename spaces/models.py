"""One row per model.

`paper` is the grid in the model's yaml file in MMRec@e775373 (models.md §15), `extended` searches the same
hyperparameters over ranges that contain that grid.

FREEDOM: the published `reg_weight` = 0 is the one value outside its extended range, since no logarithmic range holds 0.
It is the limit of that range: at 1e-6 the modal loss no longer moves the embeddings that score, while a linear range
from 0 would spend its trials on weights far above the published ones. Whoever wants 0 itself writes
`space.fix: {model.reg_weight: 0}` or takes the preset `paper`.
"""

from spaces.params import Choice, Float, Int
from spaces.row import Row
from spaces.space import SearchSpace

_MMREC = "grid of enoche/MMRec@e775373"

LIGHTGCN = Row(
    summary="mean of the embeddings propagated over the user-item graph; no modalities",
    source=f"He et al., SIGIR 2020; {_MMREC}, LightGCN.yaml (20 points)",
    defaults={"embedding_size": 64, "num_layers": 2, "reg_weight": 1e-4},
    paper=SearchSpace(
        {
            "model.num_layers": Choice(values=(1, 2, 3, 4)),
            "model.reg_weight": Choice(values=(1e-2, 1e-3, 1e-4, 1e-5, 1e-6)),
        }
    ),
    extended=SearchSpace(
        {
            "model.num_layers": Int(low=1, high=4),
            "model.reg_weight": Float(low=1e-6, high=1e-2, log=True),
        }
    ),
)

VBPR = Row(
    summary="matrix factorisation whose items carry a projection of their modality features",
    source=f"He and McAuley, AAAI 2016; {_MMREC}, VBPR.yaml (7 points)",
    defaults={"embedding_size": 64, "reg_weight": 1e-3},
    paper=SearchSpace({"model.reg_weight": Choice(values=(2.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5))}),
    extended=SearchSpace({"model.reg_weight": Float(low=1e-5, high=2.0, log=True)}),
)

BM3 = Row(
    summary="learns without negatives: aligns embeddings and modalities with dropped-out copies of themselves",
    source=f"Zhou et al., WWW 2023; {_MMREC}, BM3.yaml (8 points)",
    defaults={"embedding_size": 64, "num_layers": 1, "dropout": 0.5, "reg_weight": 0.1, "cl_weight": 2.0},
    paper=SearchSpace(
        {
            "model.num_layers": Choice(values=(1, 2)),
            "model.dropout": Choice(values=(0.3, 0.5)),
            "model.reg_weight": Choice(values=(0.1, 0.01)),
        }
    ),
    extended=SearchSpace(
        {
            "model.num_layers": Int(low=1, high=3),
            "model.dropout": Float(low=0.1, high=0.7),
            "model.reg_weight": Float(low=1e-3, high=1.0, log=True),
        }
    ),
)

FREEDOM = Row(
    summary="propagates over a frozen item-item graph of the modalities and a user-item graph pruned every epoch",
    source=f"Zhou and Shen, MM 2023; {_MMREC}, FREEDOM.yaml (8 points)",
    defaults={
        "embedding_size": 64,
        "num_layers": 2,
        "num_item_layers": 1,
        "knn_k": 10,
        "image_weight": 0.1,
        "dropout": 0.8,
        "reg_weight": 1e-3,
    },
    paper=SearchSpace(
        {
            "model.dropout": Choice(values=(0.8, 0.9)),
            "model.reg_weight": Choice(values=(0.0, 1e-5, 1e-4, 1e-3)),
        }
    ),
    extended=SearchSpace(
        {
            "model.dropout": Float(low=0.5, high=0.95),
            "model.reg_weight": Float(low=1e-6, high=1e-1, log=True),
        }
    ),
)

MODELS: dict[str, Row] = {"lightgcn": LIGHTGCN, "vbpr": VBPR, "bm3": BM3, "freedom": FREEDOM}
