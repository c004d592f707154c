"""The doctor: what is wrong with a machine or a cluster, and how to mend it.

`facts` looks at the machine that it runs on, `storage` tries the store from there, `cluster` sends both to every node,
and `checks` judges what they found, as pure functions.
"""

from search.doctor.checks import Check, Finding
from search.doctor.examination import examine

__all__ = ["Check", "Finding", "examine"]
