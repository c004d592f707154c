"""Prints time and memory of `data prepare amazon` for many reviews, in a child process.

python tests/benchmarks/prepare_scale.py [--reviews 10000000] [--users 4000000] [--items 500000]
"""

import argparse
import gzip
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_BLOCK = 200_000
_CHILD = "import sys; from search.cli import main; main(sys.argv[1:])"


def write_reviews(path: Path, reviews: int, users: int, items: int) -> None:
    """Writes short reviews in the layout of 2014: half of them by a tenth of the users, items by popularity."""
    rng = np.random.default_rng(0)
    with gzip.open(path, "wt", compresslevel=1) as file:
        for start in range(0, reviews, _BLOCK):
            count = min(_BLOCK, reviews - start)
            busy = rng.random(count) < 0.5
            user = np.where(busy, rng.integers(users // 10, size=count), rng.integers(users, size=count))
            item = (items * rng.random(count) ** 3).astype(int)
            rating, moment = rng.integers(1, 6, count), rng.integers(1_000_000_000, 1_400_000_000, count)
            file.writelines(
                f'{{"reviewerID": "A{u:013d}", "asin": "B{i:09d}", "overall": {r}.0, "unixReviewTime": {t}}}\n'
                for u, i, r, t in zip(user.tolist(), item.tolist(), rating.tolist(), moment.tolist(), strict=True)
            )


def main() -> None:
    """Writes the reviews, prepares them, prints what it took and leaves nothing behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("reviews", 10_000_000), ("users", 4_000_000), ("items", 500_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    sizes = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reviews.json.gz"
        write_reviews(path, **sizes)
        started = time.monotonic()
        command = ["data", "prepare", "amazon", "--reviews", str(path), "--out", f"{folder}/made"]
        subprocess.run([sys.executable, "-c", _CHILD, *command], check=True)
        seconds = time.monotonic() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{sizes}: {seconds:.0f} s, CPU {usage.ru_utime:.0f} s, at most {usage.ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
