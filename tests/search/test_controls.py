"""Which arms need a control beside them; whether it is there is looked up, not assumed."""

import pytest

from search.arms import BASE_ARM
from search.comparison import compare
from search.controls import CONTROLS, missing_controls
from search.spec import cells, load
from spaces.objectives import OBJECTIVES
from spaces.updates import UPDATES

START = "No control is part of this comparison for"


def sentences(*arms):
    """The sentences for updates with the plain objective, or for (objective, update)."""
    return list(missing_controls([arm if isinstance(arm, tuple) else ("plain", arm) for arm in arms]))


@pytest.mark.parametrize(
    ("arm", "controls"),
    [
        ("mirror_gradient", ["extra_steps"]),
        ("bsam", ["friendly_sam"]),
        ("sam_plus", ["double_batch"]),
        ("bsam_plus", ["double_batch", "friendly_sam"]),
        (("dvib_c", "descent"), [("entropy", "descent")]),
        (("dvib_a", "sam"), [("entropy", "sam")]),
        (("dvib_c", "mirror_gradient"), [("entropy", "mirror_gradient"), ("dvib_c", "extra_steps")]),
    ],
    ids=str,
)
def test_an_arm_whose_controls_are_all_there_needs_no_word(arm, controls):
    name = arm if isinstance(arm, str) else "+".join(arm).removesuffix(f"+{BASE_ARM}")
    assert sentences(BASE_ARM, arm, *controls) == []
    for left_out in controls:
        (said,) = sentences(BASE_ARM, arm, *(control for control in controls if control != left_out))
        assert said.startswith(f"{START} {name}: ")
        wanted = left_out if isinstance(left_out, str) else "+".join(left_out).removesuffix(f"+{BASE_ARM}")
        assert said.endswith(f"It would take {wanted}.")


def test_a_control_counts_only_with_the_same_objective_and_update():
    assert len(sentences(("dvib_c", "descent"), ("entropy", "sam"))) == 1
    assert sentences(("amr", "bsam"), ("plain", "friendly_sam"))[0].endswith("It would take amr+friendly_sam.")


def test_arms_that_lack_the_same_control_share_a_sentence():
    (said,) = sentences("sam_plus", "asam_plus", "friendly_sam", "gnp")
    assert said == (
        f"{START} asam_plus, sam_plus: the _plus forms see two batches a step and take half the steps. "
        "It would take double_batch."
    )


def test_arms_without_a_known_confounder_need_no_control():
    assert sentences(BASE_ARM, "sam", "asam", "fisher_sam", "friendly_sam", "gnp", "double_batch", "extra_steps") == []


def test_every_control_is_an_entry_and_every_pattern_finds_one():
    registries = {"objective": OBJECTIVES, "update": UPDATES}
    for control in CONTROLS:
        assert set(control.controls) <= set(registries[control.axis])
        alone = [
            ("plain", name) if control.axis == "update" else (name, "descent") for name in registries[control.axis]
        ]
        assert control.missing(set(alone) - {pair for pair in alone if set(pair) & set(control.controls)})


@pytest.mark.parametrize("name", ["mg-vs-sam-vs-bsam", "dvib-paper"])
def test_the_built_in_comparisons_hold_their_own_controls(name):
    assert list(missing_controls((cell.objective, cell.update) for cell in cells(load(name)))) == []


def test_the_papers_own_comparison_of_bsam_lacks_two():
    assert len(list(missing_controls((cell.objective, cell.update) for cell in cells(load("bsam-paper"))))) == 2


@pytest.mark.parametrize(("updates", "is_said"), [(("bsam",), True), (("bsam", "friendly_sam"), False)])
def test_a_comparison_notes_a_control_that_is_missing_and_is_silent_on_one_that_is_there(new_sweep, updates, is_said):
    writer = new_sweep(axes={"model": ["vbpr"], "update": [BASE_ARM, *updates]})
    for update in (BASE_ARM, *updates):
        writer.trial(f"lfm2k/vbpr/plain/{update}/adam", 0.2)
    assert any(note.startswith(START) for note in compare(writer.store, ["sample"]).notes) == is_said
    # An arm that was run but is not compared controls nothing.
    assert any(note.startswith(START) for note in compare(writer.store, ["sample"], ["bsam"]).notes)
