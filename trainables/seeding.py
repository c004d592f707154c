"""Named, independent random streams: everything random in a trial is a pure function of its seed and a name.

A stream is found from (seed, purpose, indices), never from how many draws came before, so a trial that is paused,
moved or resumed sees the same numbers, and two strategies with the same seed share initial weights, batch order and
negatives (common random numbers, strategies.md §12.10a).
"""

import hashlib

import numpy as np
import torch


def stream_seed(seed: int, purpose: str, *indices: int) -> int:
    """The 63-bit seed of one stream; different purposes or indices give independent streams."""
    text = "/".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def torch_stream(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """A CPU generator of that stream: weights are drawn on the CPU so that every device starts from the same."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose, *indices))


def numpy_stream(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """A NumPy generator of that stream."""
    return np.random.default_rng(stream_seed(seed, purpose, *indices))
