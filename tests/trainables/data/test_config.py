"""What a data configuration may say."""

import pytest
from pydantic import ValidationError

from trainables.data.config import DataConfig


def test_the_default_is_the_embedded_data_set_with_its_own_split():
    config = DataConfig()
    assert (config.name, config.root, config.modalities, config.split) == ("synthetic", None, None, "given")


@pytest.mark.parametrize("name", ["", "a/b", "..", "../baby", "a b", "a\tb"])
def test_a_name_that_is_not_one_plain_folder_name_is_refused(name):
    with pytest.raises(ValidationError):
        DataConfig(name=name)


def test_a_modality_named_twice_is_refused():
    with pytest.raises(ValidationError, match=r"modalities must be distinct, but got \['text', 'text'\]"):
        DataConfig(modalities=("text", "text"))


@pytest.mark.parametrize("wrong", [{"split": "temporal"}, {"splt": "random"}, {"split_seed": -1}])
def test_unknown_keys_and_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        DataConfig(**wrong)


def test_a_folder_is_named_by_its_parent_and_its_own_name(tmp_path):
    config = DataConfig.of_folder(tmp_path / "elsewhere" / ".." / "baby")
    assert (config.name, config.root) == ("baby", str(tmp_path.resolve()))
