"""One unit on a worker: a pure function of its configuration and data."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from search.datasets import graph_cache_folder
from search.protocols.units import Unit
from search.provenance import host_name
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.errors import Diverged, TrainableError
from trainables.protocols import confirmation, generalisation, landscape, robustness
from trainables.protocols.measurement import Measurement
from trainables.shares import Resources, claim_device

PROTOCOLS: Mapping[str, Callable[..., list[Measurement]]] = {
    "robustness": robustness,
    "generalisation": generalisation,
    "landscape": landscape,
    "confirmation": confirmation,
}


@dataclass(frozen=True)
class Measured:
    """What a unit came to.

    Attributes:
        measurements: fields of `Measurement` by name; () where the unit failed.
        error: why it failed, as one sentence; None where it did not.
        host: the machine that measured it; None where that is not known.
    """

    measurements: tuple[dict[str, Any], ...] = ()
    error: str | None = None
    host: str | None = None


def measure(unit: Unit, bundle: DataBundle | None, resources: Resources) -> Measured:
    """Trains and measures one unit; what goes wrong is its result, as it would only go wrong again.

    Args:
        bundle: the sweep's own data; None where the unit has a split of its own, which is then made here.
    """
    try:
        device = claim_device(resources)
        config = TrialConfig.from_flat(unit.flat)
        data = load(config.data, graph_cache_folder()) if bundle is None else bundle
        found = PROTOCOLS[unit.protocol](config, data, unit.settings, device=device)
    except (TrainableError, Diverged) as error:
        return Measured(error=str(error))
    except Exception as error:
        return Measured(error=f"{type(error).__name__}: {error}")
    return Measured(tuple(asdict(measurement) for measurement in found), host=host_name())
