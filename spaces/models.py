"""One row per model.

`paper` is the grid in the model's yaml file in MMRec@e775373 (models.md §15), `extended` searches the same
hyperparameters over ranges that contain that grid. Where a grid includes Adam's learning rate, the row names
`optimizer.learning_rate`, the smallest value first, because a plan is timed at a space's first point; spaces/presets.py
says when it counts. NGCF is not in MMRec: its row has the learning rates that its paper searched and the paper's
settings otherwise.

FREEDOM, MMGCN, SelfCF: the published `reg_weight` = 0 is the one value outside their extended ranges, since no
logarithmic range holds 0. It is the limit of the range: at 1e-6 FREEDOM's modal loss no longer moves the embeddings
that score, and the penalty of the others hardly weighs, while a linear range from 0 would spend its trials on weights
far above the published ones. Whoever wants 0 itself writes `space.fix: {model.reg_weight: 0}` or takes `paper`.

SelfCF: the grid is that of the variant `ed`. Whoever fixes the variant `he`, which has no dropout, also fixes
`model.dropout` and gives `model.momentum` a range in `space.narrow`.
"""

from spaces.params import Choice, Fixed, Float, Int
from spaces.row import Row
from spaces.space import SearchSpace

_MMREC = "grid of enoche/MMRec@e775373"
_PAPER_REG_WEIGHT = Choice(values=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5))
_REG_WEIGHT = Float(low=1e-6, high=1e-1, log=True)

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
    uses_features=True,
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
    uses_features=True,
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
    uses_features=True,
)

MMGCN = Row(
    summary="one graph network per modality over the user-item graph; their outputs are averaged",
    source=f"Wei et al., MM 2019; {_MMREC}, MMGCN.yaml (30 points; in MMRec 5 distinct runs, as its code never trains "
    "what reg_weight penalises: the axis is dead there and live here, but for compat=mmrec)",
    defaults={"embedding_size": 64, "latent_size": 256, "num_layers": 3, "reg_weight": 1e-3, "compat": "paper"},
    paper=SearchSpace(
        {
            "model.reg_weight": Choice(values=(0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
            "optimizer.learning_rate": Choice(values=(1e-4, 5e-4, 1e-3, 5e-3, 1e-2)),
        }
    ),
    extended=SearchSpace(
        {
            "model.reg_weight": _REG_WEIGHT,
            "optimizer.learning_rate": Float(low=1e-4, high=1e-2, log=True),
        }
    ),
    uses_features=True,
)

GRCN = Row(
    summary="weighs the edges of the user-item graph by how well a user's modal preferences match the item",
    source=f"Wei et al., MM 2020; {_MMREC}, GRCN.yaml (25 points)",
    defaults={"embedding_size": 64, "num_routings": 3, "num_layers": 2, "reg_weight": 1e-3, "compat": "paper"},
    paper=SearchSpace(
        {
            "model.reg_weight": _PAPER_REG_WEIGHT,
            "optimizer.learning_rate": Choice(values=(1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
        }
    ),
    extended=SearchSpace(
        {
            "model.reg_weight": _REG_WEIGHT,
            "optimizer.learning_rate": Float(low=1e-4, high=1.0, log=True),
        }
    ),
    uses_features=True,
)

DUALGNN = Row(
    summary="one graph network per modality, weighted per user, then a graph of users with items in common",
    source=f"Wang et al., TMM 2021; {_MMREC}, DualGNN.yaml (25 points)",
    defaults={
        "embedding_size": 64,
        "hidden_size": 256,
        "num_layers": 2,
        "num_neighbours": 40,
        "reg_weight": 1e-3,
        "compat": "paper",
    },
    paper=SearchSpace(
        {
            "model.reg_weight": _PAPER_REG_WEIGHT,
            "optimizer.learning_rate": Choice(values=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
        }
    ),
    extended=SearchSpace(
        {
            "model.reg_weight": _REG_WEIGHT,
            "optimizer.learning_rate": Float(low=1e-5, high=1e-1, log=True),
        }
    ),
    uses_features=True,
)

SLMREC = Row(
    summary="one propagation per modality, trained by contrast in the batch and between an item's modalities",
    source=f"Tao et al., TMM 2022; {_MMREC}, SLMRec.yaml (320 points; in MMRec 80 distinct runs, as its code never "
    "reads `reg`: the axis is dead there and live here)",
    defaults={
        "embedding_size": 64,
        "num_layers": 3,
        "temperature": 0.2,
        "ssl_temperature": 0.2,
        "ssl_weight": 0.05,
        "reg_weight": 1e-4,
        "compat": "paper",
    },
    paper=SearchSpace(
        {
            "model.ssl_temperature": Choice(values=(0.1, 0.2, 0.5, 1.0)),
            "model.ssl_weight": Choice(values=(0.01, 0.05, 0.1, 0.5, 1.0)),
            "model.reg_weight": Choice(values=(1e-4, 1e-3, 1e-2, 1e-1)),
            "optimizer.learning_rate": Choice(values=(1e-4, 1e-3, 1e-2, 1e-1)),
        }
    ),
    extended=SearchSpace(
        {
            "model.ssl_temperature": Float(low=0.05, high=1.0, log=True),
            "model.ssl_weight": Float(low=1e-3, high=1.0, log=True),
            "model.reg_weight": _REG_WEIGHT,
            "optimizer.learning_rate": Float(low=1e-4, high=1e-1, log=True),
        }
    ),
    uses_features=True,
)

DRAGON = Row(
    summary="dualgnn's networks side by side, then a frozen item-item graph of the modalities and a user-user graph",
    source=f"Zhou et al., ECAI 2023; {_MMREC}, DRAGON.yaml (25 points)",
    defaults={
        "embedding_size": 64,
        "hidden_size": 256,
        "num_layers": 2,
        "num_item_layers": 1,
        "knn_k": 10,
        "image_weight": 0.1,
        "num_neighbours": 40,
        "reg_weight": 1e-3,
    },
    paper=SearchSpace(
        {
            "model.reg_weight": _PAPER_REG_WEIGHT,
            "optimizer.learning_rate": Choice(values=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
        }
    ),
    extended=SearchSpace(
        {
            "model.reg_weight": _REG_WEIGHT,
            "optimizer.learning_rate": Float(low=1e-5, high=1e-1, log=True),
        }
    ),
    uses_features=True,
)

LGMREC = Row(
    summary="local embeddings of the user-item graph plus global ones, passed through learned hyperedges",
    source=f"Guo et al., AAAI 2024; {_MMREC}, LGMRec.yaml, its values for Baby (1 point)",
    defaults={
        "embedding_size": 64,
        "num_layers": 2,
        "num_modal_layers": 2,
        "num_hyper_layers": 1,
        "num_hyperedges": 4,
        "dropout": 0.5,
        "hyper_weight": 0.3,
        "temperature": 0.2,
        "cl_weight": 1e-4,
        "reg_weight": 1e-6,
    },
    paper=SearchSpace(
        {
            "model.num_layers": Fixed(value=2),
            "model.num_modal_layers": Fixed(value=2),
            "model.num_hyper_layers": Fixed(value=1),
            "model.num_hyperedges": Fixed(value=4),
            "model.dropout": Fixed(value=0.5),
            "model.hyper_weight": Fixed(value=0.3),
            "model.cl_weight": Fixed(value=1e-4),
            "model.reg_weight": Fixed(value=1e-6),
        }
    ),
    # The depths of the two graphs stay fixed: they are the same in the published settings of all data sets.
    extended=SearchSpace(
        {
            "model.num_layers": Fixed(value=2),
            "model.num_modal_layers": Fixed(value=2),
            "model.num_hyper_layers": Int(low=1, high=3),
            "model.num_hyperedges": Int(low=2, high=128, log=True),
            "model.dropout": Float(low=0.2, high=0.9),
            "model.hyper_weight": Float(low=0.1, high=1.0),
            "model.cl_weight": Float(low=1e-6, high=1e-2, log=True),
            "model.reg_weight": Float(low=1e-8, high=1e-4, log=True),
        }
    ),
    uses_features=True,
)

SELFCF = Row(
    summary="learns without negatives and modalities: predicts an embedding's disturbed copy (three variants)",
    source=f"Zhou et al., TORS 2023; {_MMREC}, SELFCFED_LGN.yaml (36 points)",
    defaults={
        "embedding_size": 64,
        "variant": "ed",
        "num_layers": 2,
        "dropout": 0.1,
        "momentum": 0.5,
        "reg_weight": 1e-5,
    },
    paper=SearchSpace(
        {
            "model.num_layers": Choice(values=(1, 2)),
            "model.dropout": Choice(values=(0.1, 0.2, 0.5)),
            "model.reg_weight": Choice(values=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 0.0)),
        }
    ),
    extended=SearchSpace(
        {
            "model.num_layers": Int(low=1, high=3),
            "model.dropout": Float(low=0.05, high=0.7),
            "model.reg_weight": _REG_WEIGHT,
        }
    ),
)

LAYERGCN = Row(
    summary="lightgcn whose layers count by likeness to the first, on a graph pruned every epoch; no modalities",
    source=f"Zhou et al., ICDE 2023; {_MMREC}, LayerGCN.yaml (12 points)",
    defaults={"embedding_size": 64, "num_layers": 4, "dropout": 0.1, "reg_weight": 1e-3},
    paper=SearchSpace(
        {
            "model.num_layers": Fixed(value=4),
            "model.dropout": Choice(values=(0.0, 0.1, 0.2)),
            "model.reg_weight": Choice(values=(1e-2, 1e-3, 1e-4, 1e-5)),
        }
    ),
    extended=SearchSpace(
        {
            "model.num_layers": Int(low=1, high=6),
            "model.dropout": Float(low=0.0, high=0.5),
            "model.reg_weight": _REG_WEIGHT,
        }
    ),
)

NGCF = Row(
    summary="propagation with a learned transformation in every layer, all layers side by side; no modalities",
    source="Wang et al., SIGIR 2019: its grid of learning rates and its settings (4 points); not in enoche/MMRec",
    defaults={
        "embedding_size": 64,
        "num_layers": 3,
        "message_dropout": 0.1,
        "node_dropout": 0.0,
        "reg_weight": 1e-5,
        "regulariser": "squared",
    },
    paper=SearchSpace(
        {
            "model.num_layers": Fixed(value=3),
            "model.message_dropout": Fixed(value=0.1),
            "model.node_dropout": Fixed(value=0.0),
            "model.reg_weight": Fixed(value=1e-5),
            "optimizer.learning_rate": Choice(values=(1e-4, 5e-4, 1e-3, 5e-3)),
        }
    ),
    extended=SearchSpace(
        {
            "model.num_layers": Int(low=1, high=4),
            "model.message_dropout": Float(low=0.0, high=0.8),
            "model.node_dropout": Float(low=0.0, high=0.8),
            "model.reg_weight": Float(low=1e-6, high=1e-2, log=True),
            "optimizer.learning_rate": Float(low=1e-4, high=1e-2, log=True),
        }
    ),
)

MODELS: dict[str, Row] = {
    "lightgcn": LIGHTGCN,
    "vbpr": VBPR,
    "bm3": BM3,
    "freedom": FREEDOM,
    "mmgcn": MMGCN,
    "grcn": GRCN,
    "dualgnn": DUALGNN,
    "slmrec": SLMREC,
    "dragon": DRAGON,
    "lgmrec": LGMREC,
    "selfcf": SELFCF,
    "layergcn": LAYERGCN,
    "ngcf": NGCF,
}
