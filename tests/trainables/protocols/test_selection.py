"""Which corruptions apply: refused with one sentence where asked for by name, left out where not."""

import pytest

from trainables.config import TrialConfig
from trainables.errors import ModelError
from trainables.models import MODELS
from trainables.protocols.config import RobustnessConfig
from trainables.protocols.robustness_protocol import judged
from trainables.protocols.selection import Judged, applicable
from trainables.trainer import Trainer

WHOLE = Judged("toy", "vbpr", ("image", "text"), uses_features=True, item_embeddings=True)
FEATURE_KINDS = ["gaussian", "raw_features", "text_redundancy", "visual_redundancy", "information_adjustment"]
CASES = {
    "audio instead of image": (("text", "audio"), True, True, {"visual_redundancy"}),
    "text alone": (("text",), True, True, {"visual_redundancy", "information_adjustment"}),
    "image alone": (("image",), True, True, {"text_redundancy", "information_adjustment"}),
    "ids alone": (("image", "text"), False, True, set(FEATURE_KINDS)),
    "no item embeddings": (("image", "text"), True, False, {"item_embedding"}),
    "everything": (("image", "text"), True, True, set()),
}


def kinds(settings, subject):
    return list(dict.fromkeys(corruption.kind for corruption in applicable(settings, subject)))


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_apply_is_left_out_unless_it_was_asked_for_by_name(case):
    modalities, uses_features, item_embeddings, missing = CASES[case]
    subject = Judged("toy", "a", modalities, uses_features, item_embeddings)
    everything = list(dict.fromkeys(c.kind for c in RobustnessConfig().listed()))
    assert kinds(RobustnessConfig(), subject) == [kind for kind in everything if kind not in missing]
    for kind in everything:
        settings = RobustnessConfig(corruptions=[kind])
        if kind in missing:
            with pytest.raises(ModelError, match=rf"^{kind} needs [^\n]*, but [^\n]*$"):
                applicable(settings, subject)
        else:
            assert kinds(settings, subject) == [kind]


def test_a_phase_that_makes_no_sense_is_refused_by_name_and_left_out_else():
    with pytest.raises(ModelError, match="item_embedding is noise on trained weights and has only phase 'test'"):
        applicable(RobustnessConfig(corruptions=["item_embedding"], phases=["train_test"]), WHOLE)
    with pytest.raises(ModelError, match="visual_redundancy changes the width of features and has only phase"):
        applicable(RobustnessConfig(corruptions=["visual_redundancy"], phases=["test"]), WHOLE)
    assert "item_embedding" not in kinds(RobustnessConfig(phases=["train_test"]), WHOLE)
    assert "visual_redundancy" not in kinds(RobustnessConfig(phases=["test"]), WHOLE)


def test_a_protocol_without_any_corruption_is_refused():
    ids = Judged("toy", "lightgcn", (), uses_features=False, item_embeddings=True)
    with pytest.raises(ModelError, match=r"must have a corruption that applies, but .* lightgcn on data set 'toy'"):
        applicable(RobustnessConfig(phases=["train_test"]), ids)


@pytest.mark.parametrize("name", MODELS)
def test_what_decides_is_read_off_every_model(name, toy):
    flat = {"model.name": name, "model.embedding_size": 4} | ({"model.knn_k": 3} if name == "freedom" else {})
    found = judged(Trainer(TrialConfig.from_flat(flat), toy))
    expected = Judged("toy", name, ("image", "text"), MODELS[name].uses_features, name not in ("dualgnn", "dragon"))
    assert found == expected
