"""Sweep files: what they may say, and the sentence for everything else."""

import json
from pathlib import Path
from typing import ClassVar

import pytest

from search.errors import SpecError
from search.spec import SweepSpec, builtin_sweeps, cells, load, parse, studies
from search.yaml_loader import MAX_BYTES
from spaces.aliases import UPDATE_ALIASES
from spaces.models import MODELS
from spaces.params import Fixed, Float
from spaces.updates import UPDATES
from trainables.config import TrialConfig

MINIMAL = {"name": "s", "data": {"names": ["synthetic"]}, "axes": {"model": ["vbpr"], "update": ["sam"]}}

# The sweep file of design/service.md.
FULL = """\
name: mg-sam-bsam-baby
data: {names: [baby], root: /data/mmrec}
axes:
  model: [vbpr, freedom]
  objective: [plain]
  update: [descent, mirror_gradient, sam, bsam, bsam_plus]
  optimizer: [adam]
space: {preset: extended, tune: [update, optimizer], narrow: {optimizer.learning_rate: {kind: float, low: 1.0e-4, \
high: 1.0e-2, log: true}}, fix: {model.embedding_size: 64}}
search: {sampler: tpe, trials: 32, seeds: [999], scheduler: {kind: asha, grace_epochs: 5, reduction: 3}}
train: {max_epochs: 1000, patience: 20, batch_size: 2048, validate_every: 1}
goal: {metric: recall@20, mode: max}
resources: {cpu: 1, gpu: 0.25, max_concurrent: auto}
checkpoint: {every_epochs: 5, keep: 2}
budget: {device_hours: 40, trial_minutes: 60, per: study, unit: gradient_evaluations, amount: null}
store: /shared/recsweep
"""


@pytest.fixture
def sweep_file(tmp_path):
    path = tmp_path / "sweeps" / "sweep.yaml"
    path.parent.mkdir()
    path.write_text(FULL)
    return path


def refusal(*overrides, sweep="quickstart"):
    with pytest.raises(SpecError) as caught:
        load(sweep, overrides)
    return str(caught.value)


def test_the_sweep_file_of_the_design_is_read_as_it_says(sweep_file):
    spec = load(sweep_file)
    assert spec.axes.update == ("descent", "mirror_gradient", "sam", "bsam", "bsam_plus")
    assert spec.space.narrow == {"optimizer.learning_rate": Float(low=1e-4, high=1e-2, log=True)}
    assert (spec.search.scheduler.kind, spec.search.scheduler.grace_epochs) == ("asha", 5)
    assert spec.resources.gpu == 0.25
    assert (spec.budget.device_hours, spec.budget.trial_minutes, spec.budget.amount) == (40, 60, None)
    assert spec.store == "/shared/recsweep"
    assert len(studies(spec)) == len(cells(spec)) == 10


def test_a_minimal_sweep_has_the_documented_defaults():
    spec = parse(MINIMAL)
    assert spec.axes.objective == ("plain",)
    assert spec.axes.optimizer == ("adam",)
    assert (spec.space.preset, spec.search.sampler, spec.search.trials, spec.search.seeds) == (
        "extended",
        "random",
        32,
        (999,),
    )
    train = {"max_epochs": 1000, "patience": 20, "batch_size": 2048, "validate_every": 1, "init_from": None}
    assert spec.train.model_dump() == {**train, "precision": "float32", "early_validation": None}
    assert (spec.goal.metric, spec.goal.mode) == ("recall@20", "max")


def test_a_spec_survives_the_way_through_the_store(sweep_file):
    for spec in (load(sweep_file), parse(MINIMAL), *map(load, builtin_sweeps())):
        assert SweepSpec.model_validate_json(spec.model_dump_json()) == spec
        assert parse(json.loads(spec.model_dump_json())) == spec


def test_the_built_in_sweeps_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"quickstart", "mg-vs-sam-vs-bsam", "dvib-paper", "bsam-paper", "robustness"}
    assert set(builtin_sweeps()) == names
    for name in builtin_sweeps():
        assert load(name).name == name


def test_the_quickstart_is_small():
    spec = load("quickstart")
    assert [(study.cell, study.trials) for study in studies(spec)] == [
        (f"synthetic/{model}/plain/{update}/adam", 4)
        for model in ("lightgcn", "vbpr")
        for update in ("descent", "sam", "mirror_gradient")
    ]
    assert spec.train.max_epochs <= 20


def test_every_arm_of_the_comparison_tunes_its_learning_rate_with_as_many_trials():
    arms = studies(load("mg-vs-sam-vs-bsam"))
    assert {study.trials for study in arms} == {32}
    assert all("optimizer.learning_rate" in study.space.tuned() for study in arms)
    assert not any(key.startswith("model.") for study in arms for key in study.space.tuned())


class TestOverrides:
    def test_replace_what_the_file_says_and_read_numbers_like_the_file(self):
        overrides = ["train.patience=3", "axes.model=[bm3, vbpr]", "space.fix.optimizer.learning_rate=1e-3"]
        spec = load("quickstart", overrides)
        assert spec.train.patience == 3
        assert spec.axes.model == ("bm3", "vbpr")
        assert spec.space.fix == {"model.embedding_size": 32, "optimizer.learning_rate": 1e-3}

    def test_reach_into_sections_that_the_file_leaves_out(self):
        assert load("quickstart", ["search.scheduler.kind=asha"]).search.scheduler.kind == "asha"
        assert load("quickstart", ["resources={cpu: 2}"]).resources.cpu == 2

    def test_reach_one_end_of_a_range(self, sweep_file):
        spec = load(sweep_file, ["space.narrow.optimizer.learning_rate.low=1e-3"])
        assert spec.space.narrow["optimizer.learning_rate"] == Float(low=1e-3, high=1e-2, log=True)

    def test_of_one_key_the_last_holds(self):
        assert load("quickstart", ["train.patience=3", "train.patience=4"]).train.patience == 4

    def test_may_hold_an_equals_sign_and_spaces(self):
        assert load("quickstart", ["store=/results/a=b c"]).store == "/results/a=b c"

    @pytest.mark.parametrize(
        ("override", "sentence"),
        [
            ("train.patience", "must have the form key=value"),
            ("=3", "must have the form key=value"),
            ("train.patince=3", "train.patince: is not a known key; did you mean 'patience'?"),
            ("patience=3", "patience: is not a known key; did you mean 'train.patience'?"),
            ("train.patience.days=3", "train.patience.days: is not a known key"),
            ("goal.split=test", "goal.split: is not a known key; known are metric, mode"),
            (
                "zzz=1",
                "zzz: is not a known key; "
                "known are axes, budget, checkpoint, data, goal, name, protocols, resources, search, space, store, "
                "train, watch",
            ),
            ("train.patience=soon", "train.patience: must be a whole number, but got 'soon'"),
            (
                "axes.model=[vbpr",
                ", line 1, column 6: must be valid YAML, but expected ',' or ']', but got '<stream end>'",
            ),
        ],
    )
    def test_are_refused_with_their_own_text_and_the_nearest_key(self, override, sentence):
        expected = f"override {override}{'' if sentence.startswith(',') else ': '}{sentence}"
        assert refusal(override) == expected

    def test_cannot_reach_into_what_is_not_a_mapping(self):
        assert refusal("train=3", "train.patience=2") == "override train.patience=2: train must be a mapping, but is 3"

    def test_are_named_for_rules_that_join_sections(self):
        assert refusal("search.scheduler.kind=asha", "train.validate_every=9").startswith(
            "quickstart.yaml: search.sched"
        )
        assert refusal("space.fix.update.rho=big") == (
            "override space.fix.update.rho=big: space.fix.update.rho: must be a number, but got 'big'"
        )


class TestPaths:
    def test_in_a_file_are_relative_to_the_file(self, sweep_file, tmp_path, monkeypatch):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        sweep_file.write_text(FULL.replace("/data/mmrec", "../data").replace("/shared/recsweep", "results"))
        for path in (sweep_file, "../sweeps/sweep.yaml"):
            spec = load(path)
            assert Path(spec.data.root).resolve() == tmp_path / "data"
            assert Path(spec.store).resolve() == tmp_path / "sweeps" / "results"

    def test_in_an_override_are_relative_to_the_current_folder(self, sweep_file, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        spec = load(sweep_file, ["data.root=mine", "store=./results"])
        assert (spec.data.root, spec.store) == (str(tmp_path / "mine"), str(tmp_path / "results"))

    def test_of_first_weights_are_absolute_and_count_where_given(self, sweep_file, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        plain, started = load(sweep_file), load(sweep_file, ["train.init_from=weights/trial"])
        assert started.train.init_from == str(tmp_path / "weights" / "trial")
        assert studies(started)[0].base["train.init_from"] == started.train.init_from
        assert plain.digest != started.digest and "train.init_from" not in studies(plain)[0].base

    def test_of_the_home_folder_and_addresses_are_kept(self, sweep_file, monkeypatch):
        monkeypatch.setenv("HOME", "/home/someone")
        spec = load(sweep_file, ["data.root=~/mmrec", "store=s3://bucket/recsweep"])
        assert (spec.data.root, spec.store) == ("/home/someone/mmrec", "s3://bucket/recsweep")


class TestPrecision:
    def test_counts_where_it_is_not_the_default(self, sweep_file):
        plain, *given = (load(sweep_file, [f"train.precision={name}"]) for name in ("float32", "tf32", "bf16"))
        assert load(sweep_file, []).digest == plain.digest
        assert len({plain.digest, *(spec.digest for spec in given)}) == 3
        assert "train.precision" not in studies(plain)[0].base
        assert [studies(spec)[0].base["train.precision"] for spec in given] == ["tf32", "bf16"]

    def test_must_be_a_known_one(self, sweep_file):
        with pytest.raises(SpecError, match=r"train.precision"):
            load(sweep_file, ["train.precision=float16"])


class TestEarlyValidation:
    def test_counts_where_it_is_given_and_a_sweep_without_it_is_the_one_that_it_was(self, sweep_file):
        plain, said, early = (
            load(sweep_file, given)
            for given in (
                [],
                ["train.early_validation=null"],
                ["train.early_validation={epochs: 10, users: 2048, precision: bf16}"],
            )
        )
        assert plain.digest == said.digest != early.digest
        assert "train.early_validation" not in studies(plain)[0].base
        expected = {"epochs": 10, "users": 2048, "precision": "bf16"}
        assert studies(early)[0].base["train.early_validation"] == expected
        assert TrialConfig.from_flat({"seed": 1, **studies(early)[0].base}).train.early_validation is not None

    def test_what_is_left_out_counts_as_its_default(self, sweep_file):
        short, long = (
            load(sweep_file, [f"train.early_validation={{{text}}}"])
            for text in ("epochs: 10, users: 5", "epochs: 10, users: 5, precision: float32")
        )
        assert short.digest == long.digest and studies(short) == studies(long)
        rounded = load(sweep_file, ["train.early_validation.epochs=10", "train.early_validation.precision=bf16"])
        assert "users" not in studies(rounded)[0].base["train.early_validation"]

    def test_validations_of_a_trial_are_counted(self, sweep_file):
        early = "train.early_validation={epochs: 10, users: 5}"
        every = ["train.max_epochs=25", "train.validate_every=4"]
        assert load(sweep_file, every).train.validations() == (7, 0)
        assert load(sweep_file, [*every, early]).train.validations() == (7, 2)


class TestDigest:
    def test_is_the_same_for_what_does_not_change_a_number(self, sweep_file):
        same = [
            "name=other",
            "store=/x",
            "data.root=/y",
            "resources.cpu=4",
            "checkpoint.keep=3",
            "checkpoint.ended=all",
        ]
        same += ["resources.overrides.model.vbpr.gpu=1", "budget.device_hours=1", "watch.stall_minutes=5"]
        assert load(sweep_file, same).digest == load(sweep_file).digest

    @pytest.mark.parametrize(
        "override",
        [
            "search.trials=5",
            "search.seeds=[1]",
            "axes.model=[vbpr]",
            "train.patience=1",
            "goal.metric=map@5",
            "space.fix={}",
        ],
    )
    def test_differs_for_what_does(self, sweep_file, override):
        assert load(sweep_file, [override]).digest != load(sweep_file).digest

    def test_of_a_sweep_that_uses_nothing_new_stays_what_it_was_in_every_store(self):
        before = "3945715a7a921539ffdd64a42c6c4f201967a2e8e0c7ec95b8779ea76218ad9a"
        assert load("quickstart").digest == before
        assert load("quickstart", ["space.settings=[]"]).digest == before

    def test_differs_for_settings_that_are_used(self):
        digests = {
            load("dvib-paper", [f"space.settings={names}"]).digest
            for names in ("[]", "[dvib_paper]", "[dvib_released]")
        }
        assert len(digests) == 3


class TestSettings:
    AXES: ClassVar[dict[str, object]] = {"model": ["vbpr"], "update": ["descent", "sam", "asam"]}

    def spaces(self, **space):
        """The spaces of descent, sam and asam, in this order."""
        raw = changed(axes=self.AXES, space={"preset": "paper", "tune": ["update"], **space})
        return [study.space.parameters for study in studies(parse(raw, "sweep.yaml"))]

    def test_fix_what_they_name_in_the_cells_that_they_are_for(self):
        descent, sam, asam = self.spaces(settings=["asam_samsung"])
        assert descent == {}
        assert sam == self.spaces()[1]
        assert {key: parameter.grid() for key, parameter in asam.items()} == {
            "update.adaptive_on": ("name_contains_weight",),
            "update.eta": (0.01,),
            "update.rho": (0.5,),
        }

    def test_hold_for_groups_that_are_not_tuned(self):
        (*_, asam) = self.spaces(settings=["asam_davda"], tune=[])
        assert asam["update.rho"] == Fixed(value=2.0)

    def test_yield_to_what_is_fixed_by_itself(self):
        (*_, asam) = self.spaces(settings=["asam_davda"], fix={"update.rho": 1})
        assert (asam["update.rho"], asam["update.eta"]) == (Fixed(value=1.0), Fixed(value=0.0))

    def test_enter_the_configuration_and_can_be_repeated_without_their_name(self):
        raw = changed(axes={"model": ["vbpr"], "update": ["descent"], "objective": ["dvib_a"]})
        (study,) = studies(parse({**raw, "space": {"tune": [], "settings": ["dvib_released"]}}))
        config = study.config(study.space.point(0), 999)
        assert (config["objective.distill"], config["objective.distill_rows"]) == ("released", 0)
        values = {key: value for key, value in config.items() if key in study.defaults()}
        (again,) = studies(parse({**raw, "space": {"tune": [], "fix": values}}))
        assert again.config(again.space.point(0), 999) == config

    def test_leave_out_what_an_entry_lacks(self):
        axes = {"model": ["vbpr"], "update": ["descent"], "objective": ["dvib_c", "dvib_a"]}
        constant, adaptive = studies(parse(changed(axes=axes, space={"tune": [], "settings": ["dvib_paper"]})))
        assert "objective.reg" not in constant.space.parameters
        assert adaptive.space.parameters["objective.reg"] == Fixed(value="eq13")

    @pytest.mark.parametrize(
        ("space", "sentence"),
        [
            (
                {"settings": ["asam_davd"]},
                "space.settings: must be among dvib_paper, dvib_released, asam_samsung, asam_davda, "
                "friendly_sam_official, mirror_gradient_official, but got 'asam_davd'; did you mean 'asam_davda'?",
            ),
            ({"settings": "asam_davda"}, "space.settings: must be a list, but got 'asam_davda'"),
            (
                {"settings": ["asam_davda", "asam_davda"]},
                "space.settings: must name nothing twice, but got ['asam_davda', 'asam_davda']",
            ),
            (
                {"settings": ["dvib_paper"]},
                "space.settings: must be for one of the sweep's cells, but dvib_paper is for the objectives dvib_c, "
                "dvib_a",
            ),
            (
                {"settings": ["asam_davda", "asam_samsung"]},
                "space.settings: two sets must not give one hyperparameter, but asam_davda and asam_samsung give "
                "update.adaptive_on for asam",
            ),
            (
                {"settings": ["asam_davda"], "narrow": {"update.rho": {"kind": "choice", "values": [0.1, 0.5]}}},
                "space.narrow.update.rho: a hyperparameter must be narrowed or given by space.settings, but this one "
                "is both for synthetic/vbpr/plain/asam/adam",
            ),
        ],
        ids=str,
    )
    def test_that_do_not_fit_are_refused_in_one_sentence(self, space, sentence):
        with pytest.raises(SpecError) as caught:
            self.spaces(**{"preset": "extended", **space})
        assert str(caught.value) == f"sweep.yaml: {sentence}"

    def test_can_be_given_by_an_override_and_are_named_in_its_sentence(self):
        assert load("dvib-paper", ["space.settings=[dvib_released]"]).space.settings == ("dvib_released",)
        assert refusal("space.settings=[dvib_papr]", sweep="dvib-paper").startswith(
            "override space.settings=[dvib_papr]: space.settings: must be among"
        )


class TestAliases:
    def test_are_resolved_before_anything_is_stored(self):
        spec = parse(changed(axes={"model": ["vbpr"], "update": ["fsam", "fsam_plus", "fisher_sam"]}))
        assert spec.axes.update == ("friendly_sam", "friendly_sam_plus", "fisher_sam")
        assert json.loads(spec.model_dump_json())["axes"]["update"] == [
            "friendly_sam",
            "friendly_sam_plus",
            "fisher_sam",
        ]
        assert [study.update for study in studies(spec)] == ["friendly_sam", "friendly_sam_plus", "fisher_sam"]

    def test_make_the_same_sweep_as_the_name_they_stand_for(self):
        digests = {load("quickstart", [f"axes.update=[{name}]"]).digest for name in ("fsam", "friendly_sam")}
        assert len(digests) == 1

    def test_beside_that_name_are_one_too_many(self):
        assert "must name nothing twice" in refusal("axes.update=[fsam, friendly_sam]")

    def test_are_offered_where_they_are_near_but_not_listed(self):
        said = refusal("axes.update=[fsamm]")
        assert said.endswith("but got 'fsamm'; did you mean 'fsam'?")
        assert " fsam," not in said

    def test_stand_for_entries_and_hide_none(self):
        assert set(UPDATE_ALIASES.values()) <= set(UPDATES)
        assert not set(UPDATE_ALIASES) & set(UPDATES)


def test_an_objective_on_features_is_refused_beside_a_model_without():
    axes = {"model": ["vbpr", "lightgcn"], "update": ["sam"], "objective": ["plain", "amr"]}
    with pytest.raises(SpecError) as caught:
        parse(changed(axes=axes), "sweep.yaml")
    assert str(caught.value) == (
        "sweep.yaml: axes.objective: amr must go with models that use modality features, but lightgcn uses none; "
        "sweep over the two apart"
    )
    assert len(cells(parse(changed(axes={**axes, "model": ["vbpr"]})))) == 2
    assert len(cells(parse(changed(axes={**axes, "objective": ["plain", "dvib_c", "entropy"]})))) == 6


class TestFiles:
    def test_that_are_missing_are_refused(self):
        sentence = "must be a readable file, but the system says 'No such file or directory'"
        assert refusal(sweep="nowhere.yaml") == f"nowhere.yaml: {sentence}"

    def test_that_are_folders_are_refused(self, tmp_path):
        assert refusal(sweep=tmp_path) == f"{tmp_path}: must be a readable file, but the system says 'Is a directory'"

    def test_that_are_not_text_are_refused(self, tmp_path):
        path = tmp_path / "sweep.yaml"
        path.write_bytes(b"name: \xff")
        assert refusal(sweep=path) == f"{path}: must be UTF-8 text, but byte 6 is not"

    def test_that_are_too_long_are_refused(self, tmp_path):
        path = tmp_path / "sweep.yaml"
        path.write_text("#" * (MAX_BYTES + 1))
        assert refusal(sweep=path) == f"{path}: must be at most {MAX_BYTES} bytes long, but has {MAX_BYTES + 1}"

    @pytest.mark.parametrize(("text", "kind"), [("", "NoneType"), ("[1]", "list"), ("quickstart", "str")])
    def test_that_hold_no_mapping_are_refused(self, tmp_path, text, kind):
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        assert refusal(sweep=path) == f"{path}: a sweep must be a mapping of keys, but got {kind}"

    def test_with_a_byte_order_mark_are_read(self, tmp_path):
        path = tmp_path / "sweep.yaml"
        path.write_text(FULL, encoding="utf-8-sig")
        assert load(path).name == "mg-sam-bsam-baby"

    def test_of_unknown_built_in_sweeps_are_refused_with_the_nearest_one(self):
        assert refusal(sweep="quikstart") == (
            f"a sweep must be a path ending in .yaml or one of the built-in {', '.join(builtin_sweeps())}, "
            "but got 'quikstart'; did you mean 'quickstart'?"
        )

    def test_are_named_in_the_sentence_about_their_content(self, sweep_file):
        sweep_file.write_text(FULL.replace("patience", "patince"))
        sentence = "train.patince: is not a known key; did you mean 'patience'?"
        assert refusal(sweep=sweep_file) == f"{sweep_file}: {sentence}"


def changed(**sections):
    return {**MINIMAL, **sections}


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"name": "s"}, "data: must be given (and 1 more)"),
        (changed(data=3), "data: must be a mapping, but got 3"),
        (changed(data={"names": []}), "data.names: must not be empty, but got []"),
        (changed(data={"names": "baby"}), "data.names: must be a list, but got 'baby'"),
        (
            changed(data={"names": ["../x"]}),
            "data.names[0]: must match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$', but got '../x'",
        ),
        (changed(data={"names": ["a", "a"]}), "data.names: must name nothing twice, but got ['a', 'a']"),
        (
            changed(data={"names": ["a"], "split": "leave_one"}),
            "data.split: must be 'given', 'random', 'leave_one_out' or 'global_time', but got 'leave_one'; "
            "did you mean 'leave_one_out'?",
        ),
        (changed(data={"names": ["a"], "modalities": ["x", "x"]}), "data.modalities: must name nothing twice, but got"),
        (
            changed(axes={"model": ["vpbr"], "update": ["sam"]}),
            "axes.model: must be among lightgcn, vbpr, bm3, freedom, mmgcn, grcn, dualgnn, slmrec, dragon, lgmrec, "
            "selfcf, layergcn, ngcf, but got 'vpbr'; did you mean 'vbpr'?",
        ),
        (
            changed(axes={"model": ["vbpr"], "update": ["bssam"]}),
            "axes.update: must be among descent, double_batch, extra_steps, mirror_gradient, sam, sam_plus, asam, "
            "asam_plus, fisher_sam, fisher_sam_plus, friendly_sam, friendly_sam_plus, bsam, bsam_plus, gnp, "
            "but got 'bssam'; did you mean 'bsam'?",
        ),
        (
            changed(axes={"model": ["vbpr"], "update": ["sam"], "objective": ["vib"]}),
            "axes.objective: must be among plain, dvib_c, dvib_a, amr, entropy, but got 'vib'",
        ),
        (
            changed(axes={"model": ["vbpr"], "update": ["sam"], "optimizer": ["adamw"]}),
            "axes.optimizer: must be among adam, rmsprop, adagrad, sgd, but got 'adamw'; did you mean 'adam'?",
        ),
        (
            changed(space={"preset": "papers"}),
            "space.preset: must be 'paper' or 'extended', but got 'papers'; did you mean 'paper'?",
        ),
        (
            changed(space={"tune": ["updates"]}),
            "space.tune[0]: must be 'model', 'objective', 'update' or 'optimizer', but got 'updates'; "
            "did you mean 'update'?",
        ),
        (
            changed(space={"narrow": {"update.rho": {"kind": "flaot", "low": 1, "high": 2}}}),
            "space.narrow.update.rho: must be of the kind 'float' or 'int' or 'choice' or 'fixed', but got 'flaot'; "
            "did you mean 'float'?",
        ),
        (changed(space={"narrow": {"update.rho": {"low": 1}}}), "space.narrow.update.rho: must have the key 'kind'"),
        (changed(space={"narrow": {"update.rho": 3}}), "space.narrow.update.rho: must be a mapping, but got 3"),
        (
            changed(space={"narrow": {"update.rho": {"kind": "float", "low": 2, "high": 1}}}),
            "space.narrow.update.rho: `low < high` must hold, but got low=2.0, high=1.0",
        ),
        (
            changed(space={"narrow": {"update.rho": {"kind": "float", "low": 0.1, "high": 1, "logg": True}}}),
            "space.narrow.update.rho.logg: is not a known key; did you mean 'log'?",
        ),
        (
            changed(space={"narrow": {"update.rho": {"kind": "float", "low": 0.1}}}),
            "space.narrow.update.rho.high: must be given",
        ),
        (
            changed(space={"narrow": {"update.rho": {"kind": "float", "low": 0.1, "high": 1, "log": "no"}}}),
            "space.narrow.update.rho.log: must be true or false, but got 'no'",
        ),
        (
            changed(space={"fix": {"update.rho": [1]}}),
            "space.fix.update.rho: must be a number or text or true or false, but got [1]",
        ),
        (changed(space={"fix": {"update.rho": float("nan")}}), "space.fix.update.rho: must be finite, but got nan"),
        (
            changed(search={"sampler": "gird"}),
            "search.sampler: must be 'random', 'grid' or 'tpe', but got 'gird'; did you mean 'grid'?",
        ),
        (
            changed(search={"sampler": "grid"}),
            "search.sampler: a grid needs finitely many values of every hyperparameter, but model.reg_weight of "
            "synthetic/vbpr/plain/sam/adam is continuous; narrow it to a choice, or take the preset paper",
        ),
        (changed(search={"trials": 0}), "search.trials: must be at least 1, but got 0"),
        (changed(search={"trials": 1e3}), "search.trials: must be a whole number, but got 1000.0"),
        (changed(search={"trials": True}), "search.trials: must be a whole number, but got True"),
        (changed(search={"trials": "12"}), "search.trials: must be a whole number, but got '12'"),
        (changed(search={"seeds": [1, 1]}), "search.seeds: must name nothing twice, but got [1, 1]"),
        (changed(search={"seeds": [-1]}), "search.seeds[0]: must be at least 0, but got -1"),
        (changed(search={"seeds": 5}), "search.seeds: must be a list, but got 5"),
        (
            changed(search={"scheduler": {"kind": "asha", "grace_epochs": 2}}, train={"validate_every": 3}),
            "search.scheduler.grace_epochs: must be at least train.validate_every, as no trial can be judged before it "
            "is validated, but got 2 < 3",
        ),
        (
            changed(search={"scheduler": {"kind": "fifo", "reduction": 4}}),
            "search.scheduler: grace_epochs and reduction must be left out where kind is fifo, "
            "which has no use for them",
        ),
        (
            changed(search={"scheduler": {"kind": "hyperband"}}),
            "search.scheduler.kind: must be 'fifo' or 'asha', but got 'hyperband'",
        ),
        (changed(train={"epochs": 3}), "train.epochs: is not a known key; did you mean 'max_epochs'?"),
        (changed(train={"patience": -1}), "train.patience: must be at least 0, but got -1"),
        (changed(goal={"split": "test"}), "goal.split: is not a known key; known are metric, mode"),
        (
            changed(goal={"metric": "recal@20"}),
            "goal.metric: must be recall, ndcg, precision or map, @5, 10, 20 or 50, but got 'recal@20'; "
            "did you mean 'recall@20'?",
        ),
        (
            changed(goal={"metric": "recall@7"}),
            "goal.metric: must be recall, ndcg, precision or map, @5, 10, 20 or 50,",
        ),
        (changed(resources={"gpu": 1.5}), "resources.gpu: must be a share up to 1 or a whole number, but got 1.5"),
        (changed(resources={"gpu": -1}), "resources.gpu: must be at least 0, but got -1"),
        (changed(resources={"gpu": float("inf")}), "resources.gpu: must be finite, but got inf"),
        (changed(resources={"cpu": 0}), "resources.cpu: must be at least 1, but got 0"),
        (
            changed(resources={"max_concurrent": "aut"}),
            "resources.max_concurrent: must be a whole number or 'auto', but got 'aut'; did you mean 'auto'?",
        ),
        (changed(resources={"max_concurrent": 0}), "resources.max_concurrent: must be at least 1, but got 0"),
        (changed(budgets={"device_hours": 4}), "budgets: is not a known key; did you mean 'budget'?"),
        (changed(name="a/b"), "name: must match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$', but got 'a/b'"),
        (changed(name="a" * 65), "name: must have at most 64 characters, but got 'aaaa"),
        (changed(name=None), "name: must be text, but got None"),
        (changed(name=5), "name: must be text, but got 5"),
        (
            changed(train={"patience": -1, "batch_size": 0}, goal={"mode": "maximum"}),
            "train.patience: must be at least 0, but got -1 (and 2 more)",
        ),
    ],
)
def test_a_sweep_that_breaks_a_rule_is_refused_in_one_sentence(raw, sentence):
    with pytest.raises(SpecError) as caught:
        parse(raw, "sweep.yaml")
    assert str(caught.value).startswith(f"sweep.yaml: {sentence}")
    assert "\n" not in str(caught.value)


def test_the_published_grid_can_be_run_as_a_grid():
    spec = parse(changed(space={"preset": "paper"}, search={"sampler": "grid", "trials": 100}))
    (study,) = studies(spec)
    assert study.trials == 7 * 4


def test_a_sweep_with_every_parameter_fixed_is_one_point():
    (study,) = studies(parse(MINIMAL))
    config = study.config({key: value for key, value in study.defaults().items() if key in study.space.parameters}, 999)
    raw = changed(space={"tune": [], "fix": study.defaults()}, search={"trials": 1, "seeds": [999]})
    (repeated,) = studies(parse(raw))
    assert repeated.trials == 1
    assert repeated.config(repeated.space.point(0), 999) == config


class TestProtocols:
    def test_none_is_run_unless_it_is_given(self):
        assert load("quickstart").protocols.given() == {}

    def test_settings_stand_below_the_protocols_name(self):
        protocols = load(
            "quickstart", ["protocols={robustness: {draws: 2}, generalisation: {}, seeds: [1, 2]}"]
        ).protocols
        assert list(protocols.given()) == ["robustness", "generalisation"]
        assert (protocols.robustness.draws, protocols.seeds) == (2, (1, 2))
        assert protocols.generalisation.seeds == tuple(range(996, 1006))

    def test_one_that_is_given_is_part_of_the_digest_and_one_that_is_not_is_none(self):
        without = load("quickstart").digest
        digests = [
            load("quickstart", [f"protocols.{text}"]).digest
            for text in ("robustness={}", "robustness={draws: 2}", "landscape={}", "generalisation={}")
        ]
        assert len({without, *digests}) == 5
        assert load("quickstart", ["protocols={robustness: null}"]).digest == without

    def test_a_stored_sweep_reads_back_the_same(self):
        spec = load("quickstart", ["protocols={robustness: {corruptions: [gaussian]}, landscape: {points: 3}}"])
        assert SweepSpec.model_validate_json(spec.model_dump_json()) == spec
        assert SweepSpec.model_validate(spec.model_dump(mode="json")).digest == spec.digest

    @pytest.mark.parametrize(
        ("override", "sentence"),
        [
            ("protocols.robust={}", "protocols.robust: is not a known key; did you mean 'robustness'?"),
            ("protocols.robustness.drawz=1", "protocols.robustness.drawz: is not a known key; did you mean 'draws'?"),
            ("protocols.robustness.draws=0", "protocols.robustness.draws: must be at least 1, but got 0"),
            ("protocols.robustness.corruptions=[gausian]", "but got 'gausian'; did you mean 'gaussian'?"),
            ("protocols.generalisation.vary=all", "vary: must be 'both', 'split' or 'init', but got 'all'"),
            ("protocols.generalisation.seeds=[1,1]", "seeds: must name nothing twice, but got [1, 1]"),
            ("protocols.landscape.points=1", "protocols.landscape.points: must be at least 2, but got 1"),
            ("protocols={landscape: {}, seeds: [2,2]}", "protocols.seeds: must name nothing twice, but got [2, 2]"),
            ("protocols={landscape: {}, seeds: [-1]}", "protocols.seeds[0]: must be at least 0, but got -1"),
            ("protocols={landscape: {}, seeds: []}", "protocols.seeds: must not be empty, but got []"),
            ("protocols.seeds=[1]", "seeds must be left out where neither robustness nor landscape is given"),
            ("protocols=3", "protocols: must be a mapping, but got 3"),
            ("protocols.landscape=yes please", "protocols.landscape: must be a mapping, but got 'yes please'"),
        ],
    )
    def test_a_mistake_is_named(self, override, sentence):
        assert sentence in refusal(override)


class TestShares:
    AXES: ClassVar[dict[str, object]] = {"model": ["vbpr", "freedom"], "update": ["descent", "sam"]}

    def shares(self, **resources):
        """(cpu, gpu) of the cells vbpr/descent, vbpr/sam, freedom/descent, freedom/sam."""
        spec = parse(changed(axes=self.AXES, resources=resources))
        return [(share.cpu, share.gpu) for share in map(spec.resources.of, cells(spec))]

    def refusal(self, **resources):
        with pytest.raises(SpecError) as caught:
            parse(changed(axes=self.AXES, resources=resources), "sweep.yaml")
        return str(caught.value)

    def test_are_the_sweeps_own_where_nothing_else_is_said(self):
        assert self.shares() == [(1, 0)] * 4
        assert self.shares(cpu=2, gpu=0.5) == [(2, 0.5)] * 4

    def test_of_an_axis_value_replace_what_they_name_and_leave_the_rest(self):
        overrides = {"model.freedom": {"gpu": 1}, "update.sam": {"cpu": 3}}
        shares = self.shares(cpu=2, gpu=0.25, overrides=overrides)
        assert shares == [(2, 0.25), (3, 0.25), (2, 1), (3, 1)]

    def test_of_several_values_of_one_cell_the_last_counts(self):
        first, second = {"model.freedom": {"gpu": 1}}, {"update.sam": {"gpu": 0.5}}
        assert self.shares(overrides={**first, **second}) == [(1, 0), (1, 0.5), (1, 1), (1, 0.5)]
        assert self.shares(overrides={**second, **first}) == [(1, 0), (1, 0.5), (1, 1), (1, 1)]

    def test_may_take_a_gpu_away(self):
        assert self.shares(gpu=0.5, overrides={"model.vbpr": {"gpu": 0}}) == [(1, 0)] * 2 + [(1, 0.5)] * 2

    def test_of_a_model_that_the_sweep_lacks_wait_for_it(self):
        assert self.shares(overrides={"model.bm3": {"gpu": 1}, "update.asam": {"gpu": 1}}) == [(1, 0)] * 4

    @pytest.mark.parametrize("key", ["dataset.synthetic", "objective.plain", "optimizer.adam"])
    def test_can_be_named_by_every_axis(self, key):
        assert self.shares(overrides={key: {"cpu": 4}}) == [(4, 0)] * 4

    def test_can_be_given_on_the_command_line(self):
        spec = load("quickstart", ["resources.overrides.update.sam.gpu=0.5", "resources.overrides.update.sam.cpu=2"])
        assert {key: (share.cpu, share.gpu) for key, share in spec.resources.overrides.items()} == {
            "update.sam": (2, 0.5)
        }

    def test_read_back_the_same_from_the_store(self):
        spec = parse(changed(resources={"overrides": {"model.vbpr": {"gpu": 0.5}}}))
        assert SweepSpec.model_validate_json(spec.model_dump_json()) == spec

    @pytest.mark.parametrize(
        ("overrides", "sentence"),
        [
            (
                {"models.vbpr": {"cpu": 2}},
                "resources.overrides: must name axis values (dataset.*, model.*, objective.*, update.*, optimizer.*), "
                "but got 'models.vbpr'; did you mean 'model'?",
            ),
            ({"model": {"cpu": 2}}, "resources.overrides: must name axis values"),
            ({"model.": {"cpu": 2}}, "resources.overrides: must name axis values"),
            (
                {"model.fredom": {"cpu": 2}},
                f"resources.overrides.model.fredom: must name one of {', '.join(MODELS)}, "
                "but got 'fredom'; did you mean 'freedom'?",
            ),
            (
                {"dataset.baby": {"cpu": 2}},
                "resources.overrides.dataset.baby: must name one of synthetic, but got 'baby'",
            ),
            ({"model.vbpr": {"gpu": 1.5}}, "resources.overrides.model.vbpr.gpu: must be a share up to 1 or a whole"),
            ({"model.vbpr": {"cpu": 0}}, "resources.overrides.model.vbpr.cpu: must be at least 1, but got 0"),
            (
                {"model.vbpr": {"gpus": 1}},
                "resources.overrides.model.vbpr.gpus: is not a known key; did you mean 'gpu'",
            ),
            ({"model.vbpr": 2}, "resources.overrides.model.vbpr: must be a mapping, but got 2"),
            ([1], "resources.overrides: must be a mapping, but got [1]"),
        ],
    )
    def test_that_make_no_sense_are_refused_in_one_sentence(self, overrides, sentence):
        refused = self.refusal(overrides=overrides)
        assert refused.startswith(f"sweep.yaml: {sentence}") and "\n" not in refused


class TestOperation:
    def test_has_no_limits_unless_they_are_given(self):
        budget = load("quickstart").budget
        assert budget.device_hours is budget.wall_hours is budget.trial_minutes is budget.amount is None
        assert (budget.per, budget.unit) == ("study", "gradient_evaluations")

    def test_takes_limits_of_every_kind(self):
        given = ["budget={device_hours: 2, wall_hours: 0.5, trial_minutes: 30}", "budget.unit=trials"]
        budget = load("quickstart", [*given, "budget.per=sweep", "budget.amount=7"]).budget
        assert (budget.device_hours, budget.wall_hours, budget.trial_minutes) == (2, 0.5, 30)
        assert (budget.per, budget.unit, budget.amount) == ("sweep", "trials", 7)

    def test_reads_back_the_same_from_the_store(self):
        spec = load(
            "quickstart", ["budget={amount: 5, unit: trials}", "watch.disk_floor_gb=0", "checkpoint.ended=none"]
        )
        assert SweepSpec.model_validate_json(spec.model_dump_json()) == spec

    def test_watches_and_keeps_checkpoints_unless_told_otherwise(self):
        spec = load("quickstart")
        assert (spec.watch.stall_minutes, spec.watch.disk_floor_gb) == (30, 1)
        assert (spec.checkpoint.every_epochs, spec.checkpoint.keep, spec.checkpoint.ended) == (5, 2, "best")

    @pytest.mark.parametrize(
        ("override", "sentence"),
        [
            ("budget.device_hours=0", "budget.device_hours: must be greater than 0, but got 0"),
            ("budget.wall_hours=-1", "budget.wall_hours: must be greater than 0, but got -1"),
            ("budget.trial_minutes=soon", "budget.trial_minutes: must be a number, but got 'soon'"),
            ("budget.device_hours=.inf", "budget.device_hours: must be finite, but got inf"),
            ("budget.amount=0", "budget.amount: must be at least 1, but got 0"),
            ("budget.amount=1.5", "budget.amount: must be a whole number, but got 1.5"),
            ("budget={amount: 1, unit: hours}", "budget.unit: must be 'gradient_evaluations', 'device_seconds' or"),
            ("budget={amount: 1, per: cell}", "budget.per: must be 'study' or 'sweep', but got 'cell'"),
            ("budget.per=sweep", "budget: per and unit must be left out where amount is null, which has no use for"),
            ("budget.device_hour=1", "budget.device_hour: is not a known key; did you mean 'device_hours'?"),
            ("watch.stall_minutes=0", "watch.stall_minutes: must be greater than 0, but got 0"),
            ("watch.disk_floor_gb=-1", "watch.disk_floor_gb: must be at least 0, but got -1"),
            ("watch.disk=1", "watch.disk: is not a known key; known are disk_floor_gb, stall_minutes"),
            ("checkpoint.keep=1", "checkpoint.keep: must be at least 2, but got 1"),
            ("checkpoint.every_epochs=0", "checkpoint.every_epochs: must be at least 1, but got 0"),
            ("checkpoint.ended=last", "checkpoint.ended: must be 'best', 'all' or 'none', but got 'last'"),
        ],
    )
    def test_a_mistake_is_named(self, override, sentence):
        refused = refusal(override)
        assert sentence in refused and "\n" not in refused
