"""The registry of models: a new one is a line here and a row in `spaces/models.py`."""

from trainables.models.base import Recommender
from trainables.models.bm3 import BM3
from trainables.models.dragon import DRAGON
from trainables.models.dualgnn import DualGNN
from trainables.models.freedom import FREEDOM
from trainables.models.grcn import GRCN
from trainables.models.layergcn import LayerGCN
from trainables.models.lgmrec import LGMRec
from trainables.models.lightgcn import LightGCN
from trainables.models.mmgcn import MMGCN
from trainables.models.ngcf import NGCF
from trainables.models.selfcf import SelfCF
from trainables.models.slmrec import SLMRec
from trainables.models.vbpr import VBPR

MODELS: dict[str, type[Recommender]] = {
    "lightgcn": LightGCN,
    "vbpr": VBPR,
    "bm3": BM3,
    "freedom": FREEDOM,
    "mmgcn": MMGCN,
    "grcn": GRCN,
    "dualgnn": DualGNN,
    "slmrec": SLMRec,
    "dragon": DRAGON,
    "lgmrec": LGMRec,
    "selfcf": SelfCF,
    "layergcn": LayerGCN,
    "ngcf": NGCF,
}
