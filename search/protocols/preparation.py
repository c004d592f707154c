"""What the protocols of a sweep file will train, known before the sweep starts; and whether they can."""

from collections.abc import Mapping, Sequence

from search.datasets import graph_cache_folder
from search.errors import SpecError
from search.plan import ProtocolRuns
from search.preparation import extreme_points
from search.spec import SweepSpec
from search.study_spec import StudySpec
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.data.config import DataConfig
from trainables.errors import ModelError
from trainables.protocols.config import GeneralisationConfig, RobustnessConfig
from trainables.protocols.robustness_protocol import judged
from trainables.protocols.selection import applicable
from trainables.trainer import Trainer


def check_protocols(spec: SweepSpec, studies: Sequence[StudySpec], bundles: Mapping[str, DataBundle]) -> None:
    """Returns if the sweep file's protocols suit every cell and data set.

    Raises:
        SpecError: a corruption that was asked for by name does not apply to a cell.
        DataError: a data set cannot be divided at random.
    """
    protocol_runs(spec, studies, bundles)


def protocol_runs(
    spec: SweepSpec, studies: Sequence[StudySpec], bundles: Mapping[str, DataBundle]
) -> list[ProtocolRuns]:
    """What the sweep file's protocols train after the search, cell by cell.

    Raises:
        SpecError, DataError: as `check_protocols`.
    """
    seeds = len(spec.protocols.seeds or spec.search.seeds)
    drawn = _random_splits(spec)
    runs = []
    for study in studies:
        pairs = len(bundles[study.dataset].train)
        for protocol, settings in spec.protocols.given().items():
            trainings = seeds
            if isinstance(settings, RobustnessConfig):
                trainings = seeds * _trainings_of_a_seed(settings, study, bundles[study.dataset], spec.search.seeds[0])
            elif isinstance(settings, GeneralisationConfig):
                trainings = len(settings.seeds)
            own = drawn[study.dataset] if protocol == "generalisation" and drawn else pairs
            runs.append(ProtocolRuns(study.cell, protocol, trainings, -(-own // spec.train.batch_size)))
    return runs


def _trainings_of_a_seed(settings: RobustnessConfig, study: StudySpec, bundle: DataBundle, seed: int) -> int:
    point = next(extreme_points(study))
    trainer = Trainer(TrialConfig.from_flat(study.config(point, seed)), bundle)
    try:
        return settings.trainings(applicable(settings, judged(trainer)))
    except ModelError as error:
        raise SpecError(f"cell {study.cell}: protocols.robustness: {error}") from None


def _random_splits(spec: SweepSpec) -> dict[str, int]:
    """Training pairs of each data set where generalisation divides it anew; {} where it does not.

    A random split gives every user the same number of training pairs whatever its seed, so one is as good as all.
    """
    settings = spec.protocols.generalisation
    if settings is None or settings.vary == "init":
        return {}
    shared = spec.data.model_dump(exclude={"names"}) | {"split": "random", "split_seed": settings.seeds[0]}
    loaded = {name: load(DataConfig(name=name, **shared), graph_cache_folder()) for name in spec.data.names}
    return {name: len(bundle.train) for name, bundle in loaded.items()}
