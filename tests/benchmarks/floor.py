"""How fast an epoch of each model could be on this machine: counted work over measured rates. Used by `epoch_time.py`.

A floor is what the arithmetic of a batch needs in float32 with exact mathematics and nothing else: sparse products,
dense products, inner products along edges, gathers, exponentials, passes over tables, Adam; each at the rate that one
thread reaches on this machine when it does nothing but that. Sampling, Python and the framework cost nothing in it, and
whatever is computed once and read again is free. `WORK` holds the counts, from the models' formulas (models.md) with
their default numbers; rates are CPU seconds, so that a busy machine disturbs them little.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from trainables.data.bundle import DataBundle
from trainables.layers.attention import BipartiteEdges
from trainables.layers.dense import product
from trainables.layers.propagation import SparseOperator, sparse_product
from trainables.layers.tensors import rows

BATCH = 2048
WIDTH = 64

DESIGN = {
    "lightgcn": 1.0,
    "layergcn": 1.5,
    "selfcf": 0.8,
    "vbpr": 2.2,
    "bm3": 5.5,
    "freedom": 6.0,
    "slmrec": 4.0,
    "mmgcn": 40.0,
    "grcn": 6.0,
}
"""Seconds an epoch: the floors of performance.md for float32, Amazon Baby's size, a machine with AVX-512 and AMX. Those
of DualGNN, DRAGON and LGMRec there take bfloat16 for granted; NGCF has none."""


@dataclass(frozen=True)
class Sizes:
    """What the counts depend on.

    Attributes:
        users, items, edges: U, I, E of the training graph.
        modalities: M, with `features` the sum of their widths.
        wide: widths of the features that are projected before MMGCN's layers; `narrow` those that are not.
        batch_users: distinct users of a batch, in the mean.
        batch_positives: distinct positives.
        batch_items: distinct positives and negatives.
        neighbours: stored values of the graph of items (FREEDOM, DRAGON).
        friends: stored values of the graph of users (DualGNN, DRAGON), with the users themselves.
    """

    users: int
    items: int
    edges: int
    features: int
    modalities: int
    wide: tuple[int, ...]
    narrow: tuple[int, ...]
    batch_users: float
    batch_positives: float
    batch_items: float
    neighbours: int
    friends: int

    @property
    def nodes(self) -> int:
        """N = U + I."""
        return self.users + self.items


@dataclass(frozen=True)
class Work:
    """What one batch takes, forward and backward.

    Attributes:
        hops: products with the whole adjacency (both halves, 2 E values) at width 64; half of one is 0.5.
        inner: inner products of width 64 along all E edges.
        flops: floating-point operations of dense products, 2 a multiplication.
        gathered: rows of width 64 that are read at random, with the backward pass that adds them up.
        moved: float32 values that passes over tables read or write.
        exponentials: entries of similarity matrices.
    """

    hops: float = 0
    inner: float = 0
    flops: float = 0
    gathered: float = 0
    moved: float = 0
    exponentials: float = 0


def _lightgcn(s: Sizes) -> Work:
    """Three hops there and back; a mean of layers there and back rides along (Horner)."""
    return Work(hops=6, gathered=3 * BATCH)


def _selfcf(s: Sizes) -> Work:
    """Two hops there and back over edges dropped anew (values drawn, masked, permuted: 8 passes over 2 E)."""
    predictor = 3 * 2 * 2 * BATCH * WIDTH**2
    return Work(hops=4, gathered=2 * BATCH, flops=predictor, moved=8 * 2 * s.edges)


def _layergcn(s: Sizes) -> Work:
    """Four hops there and back over 0.9 E. A hop reads Y and X0, writes a Y, adds to the sum (5 passes over [N, 64]);
    back it reads the gradient, Y and X0, writes one and adds to another (6)."""
    return Work(hops=0.9 * 8, gathered=6 * BATCH, moved=4 * (5 + 6) * s.nodes * WIDTH)


def _ngcf(s: Sizes) -> Work:
    """Three layers. A hop and two products [N, 64] x [64, 64] each, twice that back, in the last layer for the batch's
    rows alone; passes: e, m, output, dropout there; these, the gradient and two results back; unit rows of 4 layers."""
    touched = s.batch_users + s.batch_items
    layer = 2 * 2 * WIDTH**2  # of one row, both products, forward
    flops = 3 * layer * s.nodes + 2 * layer * (2 * s.nodes + touched)
    moved = WIDTH * (3 * 4 * s.nodes + 7 * (2 * s.nodes + touched) + 4 * 2 * s.nodes)
    return Work(hops=6, flops=flops, gathered=4 * 3 * BATCH, moved=moved)


def _vbpr(s: Sizes) -> Work:
    """The batch's items, gathered and projected, and the gradient of the projection."""
    flops = 2 * 2 * s.batch_items * s.features * WIDTH
    return Work(flops=flops, gathered=2 * 3 * BATCH, moved=2 * s.batch_items * s.features)


def _tables(s: Sizes, items: float) -> tuple[float, float]:
    """(flops, moved) of trainable features: items projected, both gradients, and the tables' gradient written whole."""
    return 3 * 2 * items * s.features * WIDTH, 2 * items * s.features + s.items * s.features


def _bm3(s: Sizes) -> Work:
    """One hop there and back, the positives' features, the predictor on 2 + M views; norms of all rows."""
    flops, moved = _tables(s, s.batch_positives)
    predictor = 3 * 2 * (2 + s.modalities) * BATCH * WIDTH**2
    gathered = (2 + s.modalities) * BATCH
    return Work(hops=2, flops=flops + predictor, gathered=gathered, moved=moved + 3 * s.nodes * WIDTH)


def _freedom(s: Sizes) -> Work:
    """Two hops there and back over 0.2 E, one over the graph of items, the batch's features."""
    flops, moved = _tables(s, s.batch_items)
    hops = 0.2 * 4 + s.neighbours / s.edges
    return Work(hops=hops, flops=flops, gathered=(3 + 2 * s.modalities) * BATCH, moved=moved)


def _slmrec(s: Sizes) -> Work:
    """One half of each hop where the other side starts at zero, and what views share once: 10 halves there, 10 back.
    All features projected and the gradient of the projections; contrasts of distinct rows, three products each."""
    views = 1 + s.modalities
    halves = 2 + 1 + 2 * views + 1
    pairs = s.batch_users * s.batch_positives + s.modalities * s.batch_positives**2
    fusions = 3 * 2 * views * WIDTH**2 * (s.batch_users + s.batch_positives + s.items)
    flops = 2 * 2 * s.items * s.features * WIDTH + 3 * 2 * pairs * WIDTH + fusions
    return Work(hops=halves, flops=flops, gathered=(1 + views) * BATCH, exponentials=pairs)


def _lgmrec(s: Sizes) -> Work:
    """Ids: two hops there and back. A modality: a mean over histories and two hops, there and back. Features times
    64 + 4 columns and their gradient. Contrast of the batch's distinct rows with all, by factors of width 4."""
    hops = 4 + s.modalities * 2 * 2.5
    contrasts = s.modalities * (s.modalities - 1) / 2
    pairs = contrasts * (s.batch_users * s.users + s.batch_positives * s.items)
    flops = 2 * 2 * s.items * s.features * (WIDTH + 4) + 3 * 2 * pairs * 4
    unit_rows = (1 + s.modalities) * s.nodes * WIDTH * (3 + 4)
    return Work(hops=hops, flops=flops, gathered=3 * BATCH, moved=unit_rows, exponentials=pairs)


def _grcn(s: Sizes) -> Work:
    """A modality: features projected; three routings, each an inner product and half a hop there, an inner product and
    three halves back; attention both ways: one and two halves there, two and four back. Ids: two hops there and back,
    two inner products each back. Unit rows of the users a routing."""
    halves = s.modalities * (3 * (1 + 3) + 2 + 4) + 2 * (2 + 2)
    inner = s.modalities * (3 * (1 + 1) + 1 + 2) + 2 * 2
    moved = s.modalities * 3 * (3 + 4) * s.users * WIDTH
    flops = 2 * 2 * s.items * s.features * WIDTH
    gathered = (1 + s.modalities) * 3 * BATCH
    return Work(hops=halves / 2, inner=inner, flops=flops, gathered=gathered, moved=moved)


def _perceptrons(s: Sizes) -> float:
    """Flops of F -> 256 -> 64 for all items, with their gradients (none in the features)."""
    return 2 * s.items * 256 * (2 * s.features + 3 * s.modalities * WIDTH)


def _encoder(s: Sizes) -> float:
    """Values moved by unit rows, there and back, and by the weighing of every modality's users."""
    return s.modalities * WIDTH * (6 * s.nodes + 5 * s.users)


def _dualgnn(s: Sizes) -> Work:
    """Perceptrons of all items; two hops a modality there and back; the batch's rows of the graph of users."""
    friends = 2 * s.friends * BATCH / s.users / (2 * s.edges)
    hops = s.modalities * 4 + friends
    return Work(hops=hops, flops=_perceptrons(s), gathered=(2 + s.modalities) * BATCH, moved=_encoder(s))


def _dragon(s: Sizes) -> Work:
    """As DualGNN, modalities side by side in the graph of users, and in one of items there and back."""
    friends = 2 * s.friends * BATCH / s.users / (2 * s.edges)
    hops = s.modalities * (4 + friends + s.neighbours / s.edges)
    return Work(hops=hops, flops=_perceptrons(s), gathered=3 * s.modalities * BATCH, moved=_encoder(s))


def _mmgcn(s: Sizes) -> Work:
    """A modality: wide features to 256 columns; three layers from W to 64 columns, the first with W = its width: two
    products I x W x W, for all nodes two N x W x 64 and one N x 64 x 64, two more of each back; a hop of width W there
    and back. Passes over [N, W] for activations and unit rows."""
    flops, hops, moved = 0.0, 0.0, 0.0
    for width in [256] * len(s.wide) + list(s.narrow):
        for inputs in (width, WIDTH, WIDTH):
            flops += 6 * (2 * s.items * inputs**2 + 2 * s.nodes * inputs * WIDTH + s.nodes * WIDTH**2)
            hops += 2 * inputs / WIDTH
            moved += (2 + 3) * s.nodes * (inputs + WIDTH)
        moved += 6 * s.nodes * width
    flops += 2 * 2 * s.items * sum(s.wide) * 256
    return Work(hops=hops, flops=flops, gathered=6 * BATCH, moved=moved)


WORK: dict[str, Callable[[Sizes], Work]] = {
    "vbpr": _vbpr,
    "bm3": _bm3,
    "freedom": _freedom,
    "lightgcn": _lightgcn,
    "selfcf": _selfcf,
    "layergcn": _layergcn,
    "ngcf": _ngcf,
    "mmgcn": _mmgcn,
    "grcn": _grcn,
    "dualgnn": _dualgnn,
    "slmrec": _slmrec,
    "dragon": _dragon,
    "lgmrec": _lgmrec,
}


def sizes(data: DataBundle) -> Sizes:
    """The sizes of a data set; distinct ids of a batch are those of 8 random ones."""
    rng = np.random.default_rng(0)
    chosen = [rng.choice(len(data.train), min(BATCH, len(data.train)), replace=False) for _ in range(8)]
    negatives = [rng.choice(np.unique(data.train.items), BATCH) for _ in chosen]
    users, positives = ([column[part] for part in chosen] for column in (data.train.users, data.train.items))
    widths = [features.shape[1] for features in data.features.values()]
    return Sizes(
        users=data.num_users,
        items=data.num_items,
        edges=len(data.train),
        features=sum(widths),
        modalities=len(widths),
        wide=tuple(width for width in widths if width > 512),
        narrow=tuple(width for width in widths if width <= 512),
        batch_users=float(np.mean([len(np.unique(part)) for part in users])),
        batch_positives=float(np.mean([len(np.unique(part)) for part in positives])),
        batch_items=float(
            np.mean([len(np.union1d(*parts)) for parts in zip(positives, negatives, strict=True)]),
        ),
        neighbours=len(data.item_graph(10, 0.1).values),
        friends=len(data.user_neighbours(40).values) + data.num_users,
    )


@dataclass(frozen=True)
class Machine:
    """CPU seconds of the pieces on one thread.

    Attributes:
        hop: of `Work.hops`, one.
        inner: of `Work.inner`, one.
        flop, gathered, moved, exponential: of one each.
    """

    hop: float
    inner: float
    flop: float
    gathered: float
    moved: float
    exponential: float

    def seconds(self, work: Work) -> float:
        """Of one batch without the optimiser."""
        return (
            work.hops * self.hop
            + work.inner * self.inner
            + work.flops * self.flop
            + work.gathered * self.gathered
            + work.moved * self.moved
            + work.exponentials * self.exponential
        )


def quickest(task: Callable[[], object], times: int = 15) -> float:
    """The least CPU seconds of several runs, after two that are not counted."""
    found = []
    for _ in range(2 + times):
        start = time.process_time()
        task()
        found.append(time.process_time() - start)
    return min(found[2:])


def measure_machine(data: DataBundle) -> Machine:
    """Times the pieces on the data set's own graph and sizes."""
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, WIDTH, generator=generator) for n in (data.num_users, data.num_items))
    graph, edges = SparseOperator(data.bipartite()), BipartiteEdges(data.interactions())
    wide = torch.randn(data.num_items, 4096, generator=generator)
    narrow, gradient = torch.randn(4096, WIDTH, generator=generator), torch.randn(3 * BATCH, WIDTH, generator=generator)
    ids = torch.randint(data.num_users, (3 * BATCH,), generator=generator)
    table, target = torch.randn(2**24, generator=generator), torch.empty(2**24)
    block, powers = torch.randn(2**18, generator=generator), torch.empty(2**18)

    def gather() -> None:
        leaf = users.requires_grad_()
        torch.autograd.grad(rows(leaf, ids), leaf, gradient)

    with torch.no_grad():
        hop = quickest(lambda: (sparse_product(graph.matrix, items), sparse_product(graph.transpose, users)))
        inner = quickest(lambda: edges.products(users, items))
        dense = quickest(lambda: product(wide, narrow))
        copy = quickest(lambda: target.copy_(table))
        exponential = quickest(lambda: torch.exp(block, out=powers))
    return Machine(
        hop=hop,
        inner=inner,
        flop=dense / (2 * wide.numel() * WIDTH),
        gathered=quickest(gather) / len(ids),
        moved=copy / (2 * table.numel()),
        exponential=exponential / block.numel(),
    )


def adam_seconds(weights: int) -> float:
    """CPU seconds of one step over so many weights."""
    parameter = torch.nn.Parameter(torch.zeros(weights))
    parameter.grad = torch.ones(weights)
    return quickest(torch.optim.Adam([parameter], fused=True).step, times=7)


def epoch_floor(model: str, machine: Machine, size: Sizes, weights: int) -> float:
    """CPU seconds of a model's epoch at the least."""
    batches = -(-size.edges // BATCH)
    return batches * (machine.seconds(WORK[model](size)) + adam_seconds(weights))
