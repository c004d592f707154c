"""The registry of models: a new one is a line here and a row in `spaces/models.py`."""

from trainables.models.base import Recommender
from trainables.models.bm3 import BM3
from trainables.models.freedom import FREEDOM
from trainables.models.lightgcn import LightGCN
from trainables.models.vbpr import VBPR

MODELS: dict[str, type[Recommender]] = {
    "lightgcn": LightGCN,
    "vbpr": VBPR,
    "bm3": BM3,
    "freedom": FREEDOM,
}
