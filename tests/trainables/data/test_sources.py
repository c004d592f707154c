"""Finding data sets: folders, the embedded one, and the sentence for one that is not there."""

import pytest

from trainables.data.config import DataConfig
from trainables.data.sources import open_source
from trainables.errors import DataError


def test_a_folder_offers_the_modalities_of_its_files(write, features):
    assert open_source(write(features=features)).modalities == ("image", "text")
    assert open_source(write("plain")).modalities == ()


def test_digests_are_of_the_files_in_use_by_file_name(write, features):
    source = open_source(write(features=features))
    assert list(source.digests(["text"])) == ["tiny.inter", "text_feat.npy"]


def test_the_embedded_data_set_needs_no_root_and_is_always_the_same():
    first, second = (open_source(DataConfig()) for _ in range(2))
    assert first.modalities == ("image", "text")
    assert first.digests(first.modalities) == second.digests(second.modalities)


def test_a_missing_folder_is_an_error_with_the_nearest_name(write, tmp_path):
    write("baby")
    with pytest.raises(DataError, match=r"data set folder .*bayb must exist, but does not \(did you mean 'baby'\?\)"):
        open_source(DataConfig(name="bayb", root=str(tmp_path)))
    with pytest.raises(DataError, match=r"pinterest must exist, but does not$"):
        open_source(DataConfig(name="pinterest", root=str(tmp_path)))


def test_a_missing_root_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.baby must exist, but neither does .*nowhere$"):
        open_source(DataConfig(name="baby", root=str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match=r"data\.root must name the folder that holds data set 'baby', but is not set"):
        open_source(DataConfig(name="baby"))


def test_a_folder_without_its_table_is_an_error_with_the_nearest_name(tmp_path):
    (tmp_path / "baby").mkdir()
    (tmp_path / "baby" / "babys.inter").write_text("")
    with pytest.raises(DataError, match=r"baby must hold baby\.inter, but does not \(did you mean 'babys\.inter'\?\)"):
        open_source(DataConfig(name="baby", root=str(tmp_path)))


def test_a_folder_with_the_name_of_the_embedded_data_set_is_an_error(write, tmp_path):
    write("synthetic")
    with pytest.raises(DataError, match=r"synthetic must be renamed, because 'synthetic' is the embedded data set"):
        open_source(DataConfig(root=str(tmp_path)))
