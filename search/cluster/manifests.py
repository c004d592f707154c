"""Files for the tools that start clusters: Ray's cluster launcher, and KubeRay."""

from collections.abc import Mapping
from importlib.resources import files

MANIFESTS: Mapping[str, str] = {
    "cluster": "aws.yaml",
    "cluster-gcp": "gcp.yaml",
    "cluster-onprem": "onprem.yaml",
    "kuberay": "kuberay.yaml",
}
"""Their files, by the names that `recsweep show` knows them by; `cluster` is also the project's cluster.yaml."""


def manifest(name: str) -> str:
    """The text of a manifest, as it is to be filled in and given to `ray up` or `kubectl apply`.

    Args:
        name: one of `MANIFESTS`.
    """
    return (files("search.cluster") / "templates" / MANIFESTS[name]).read_text(encoding="utf-8")
