"""What protocols will train, counted beforehand, against what they do train."""

from pathlib import Path
from typing import Any

import pytest

from search.errors import SpecError
from search.plan import ProtocolRuns, plan
from search.preparation import batches_per_epoch, gradient_evaluations
from search.protocols.preparation import check_protocols, protocol_runs
from search.spec import SweepSpec, parse, studies
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.data.config import DataConfig
from trainables.protocols import generalisation, robustness
from trainables.protocols.config import variants
from trainables.trainer import Trainer


def sweep(protocols: Any, **sections: Any) -> SweepSpec:
    raw = {
        "name": "s",
        "data": {"names": ["toy"]},
        "axes": {"model": ["vbpr", "lightgcn"], "update": ["sam"]},
        "space": {"tune": [], "fix": {"model.embedding_size": 4}},
        "search": {"trials": 1, "seeds": [1, 2]},
        "train": {"batch_size": 8, "max_epochs": 2},
        "protocols": protocols,
    }
    return parse({**raw, **sections})


def runs(spec: SweepSpec, bundle: DataBundle) -> list[ProtocolRuns]:
    return protocol_runs(spec, studies(spec), dict.fromkeys(spec.data.names, bundle))


def test_robustness_trains_once_a_seed_and_again_for_every_corruption_of_the_training_data(toy: DataBundle) -> None:
    vbpr, lightgcn = runs(sweep({"robustness": {}}), toy)
    # Two levels of the noise, and both redundancies; lightgcn sees no features.
    assert (vbpr.protocol, vbpr.trainings, vbpr.batches) == ("robustness", 2 * (1 + 4), 5)
    assert lightgcn.trainings == 2
    drawn_twice, _ = runs(sweep({"robustness": {"train_draws": 2}, "seeds": [7, 8, 9]}), toy)
    assert drawn_twice.trainings == 3 * (1 + 8)


def test_as_many_trainings_and_gradient_evaluations_are_planned_as_there_are(
    toy: DataBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = sweep({"robustness": {"draws": 1}, "seeds": [1]})
    planned = plan(spec, batches_per_epoch(spec, {"toy": toy}), gradient_evaluations, runs(spec, toy))
    trainers: list[Trainer] = []
    run_epoch = Trainer.run_epoch
    monkeypatch.setattr(Trainer, "run_epoch", lambda self: (trainers.append(self), run_epoch(self))[1])
    for study, expected in zip(studies(spec), planned.protocols, strict=True):
        trainers.clear()
        config = TrialConfig.from_flat(study.config({"model.embedding_size": 4}, 1))
        assert spec.protocols.robustness is not None
        robustness(config, toy, spec.protocols.robustness)
        trained = {id(trainer): trainer for trainer in trainers}.values()
        assert len(trained) == expected.trainings
        spent = sum(trainer.progress.gradient_evaluations for trainer in trained)
        assert expected.gradient_evaluations.low == expected.gradient_evaluations.high == spent


def test_generalisation_is_counted_on_a_split_of_its_own() -> None:
    spec = sweep(
        {"generalisation": {"seeds": [996, 997, 998]}},
        data={"names": ["synthetic"]},
        axes={"model": ["lightgcn"], "update": ["descent"]},
        train={"batch_size": 64, "max_epochs": 1},
    )
    bundle = load(DataConfig())
    (found,) = runs(spec, bundle)
    (study,) = studies(spec)
    assert found.trainings == 3
    for variant in variants(study.config({"model.embedding_size": 4}, 1), spec.protocols.generalisation):
        config = TrialConfig.from_flat(variant.flat)
        divided = load(config.data)
        (measured, *_) = generalisation(config, divided, spec.protocols.generalisation)
        assert found.batches == -(-len(divided.train) // 64) == measured.gradient_evaluations
    init = sweep({"generalisation": {"vary": "init"}}, data={"names": ["synthetic"]})
    assert {each.batches for each in runs(init, bundle)} == {-(-len(bundle.train) // 8)}


def test_a_split_of_its_own_need_not_be_as_large_as_the_given_one(tmp_path: Path) -> None:
    """Of each user's five rows the file gives two to training, and a random split three."""
    (tmp_path / "tiny").mkdir()
    given = [f"{user}\t{(user + step) % 6}\t{[0, 0, 1, 1, 2][step]}" for user in range(6) for step in range(5)]
    (tmp_path / "tiny/tiny.inter").write_text("\n".join(["userID\titemID\tx_label", *given]) + "\n")
    spec = sweep(
        {"generalisation": {}, "landscape": {}},
        data={"names": ["tiny"], "root": str(tmp_path)},
        axes={"model": ["lightgcn"], "update": ["descent"]},
        train={"batch_size": 1},
    )
    found = runs(spec, load(DataConfig(name="tiny", root=str(tmp_path))))
    assert {each.protocol: (each.trainings, each.batches) for each in found} == {
        "generalisation": (10, 18),
        "landscape": (2, 12),
    }


def test_a_landscape_takes_one_training_a_seed(toy: DataBundle) -> None:
    assert [each.trainings for each in runs(sweep({"landscape": {}}), toy)] == [2, 2]


def test_nothing_is_counted_where_no_protocol_is_given(toy: DataBundle) -> None:
    assert runs(sweep({}), toy) == []


def test_a_corruption_that_does_not_apply_is_refused_with_its_cell(toy: DataBundle) -> None:
    spec = sweep({"robustness": {"corruptions": ["gaussian"]}})
    sentence = (
        r"^cell toy/lightgcn/plain/sam/adam: protocols\.robustness: gaussian needs a model that uses modality fea"
    )
    with pytest.raises(SpecError, match=sentence):
        check_protocols(spec, studies(spec), {"toy": toy})
