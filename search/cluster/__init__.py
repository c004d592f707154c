"""The cluster: connection, authentication, capacity, jobs and manifests. Ray is imported only where it is called."""

from search.cluster.capacity import Capacity
from search.cluster.connection import ALLOCATOR, SETTINGS, connected, connection

__all__ = ["ALLOCATOR", "SETTINGS", "Capacity", "connected", "connection"]
