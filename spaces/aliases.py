"""Other names under which a sweep file may know an entry; resolved when the file is read, and stored resolved."""

from collections.abc import Mapping

# "FSAM" is Friendly SAM in the BSAM paper and Fisher SAM elsewhere; here it is as in that paper (strategies.md §0).
UPDATE_ALIASES: Mapping[str, str] = {"fsam": "friendly_sam", "fsam_plus": "friendly_sam_plus"}
