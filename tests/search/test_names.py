"""Names and digests of cells, trials and sweeps."""

import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from search.names import cell_name, config_digest, digest, trial_name

CONFIG = {
    "seed": 999,
    "data.root": "/data",
    "data.modalities": ["image"],
    "model.name": "vbpr",
    "objective.name": "plain",
    "update.name": "bsam_plus",
    "update.rho": 0.1,
}


def test_a_cell_is_named_by_its_five_parts():
    assert cell_name("lfm2k", "vbpr", "plain", "bsam_plus", "adam") == "lfm2k/vbpr/plain/bsam_plus/adam"


def test_a_trial_is_named_by_model_and_update_and_eight_digits():
    assert re.fullmatch(r"vbpr-bsam_plus-[0-9a-f]{8}", trial_name(CONFIG))


def test_an_objective_other_than_plain_stands_in_the_name():
    assert trial_name({**CONFIG, "objective.name": "dvib_c"}).startswith("vbpr-dvib_c-bsam_plus-")


def test_the_name_depends_on_every_value_and_on_the_seed():
    names = {
        trial_name({**CONFIG, **change}) for change in ({}, {"seed": 1}, {"update.rho": 0.2}, {"data.modalities": None})
    }
    assert len(names) == 4


def test_the_name_is_the_same_wherever_the_data_lie():
    assert trial_name({**CONFIG, "data.root": "/elsewhere"}) == trial_name(CONFIG)


def test_the_name_is_the_same_on_every_machine_and_in_every_release():
    text = (
        '{"data.modalities":["image"],"model.name":"vbpr","objective.name":"plain","seed":999,'
        '"update.name":"bsam_plus","update.rho":0.1}'
    )
    assert trial_name(CONFIG) == f"vbpr-bsam_plus-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    assert trial_name(CONFIG).endswith("-ca7e6fa7")


@given(st.permutations(sorted(CONFIG)))
def test_the_digest_does_not_depend_on_the_order_of_keys(keys):
    assert config_digest({key: CONFIG[key] for key in keys}) == config_digest(CONFIG)


def test_a_digest_tells_a_whole_number_from_a_float_and_from_text():
    assert len({digest({"a": value}) for value in (1, 1.0, "1", True)}) == 4
