"""The optional encoders, with tiny models that the tests make; without the extra, the sentence that it is missing."""

import importlib.util
import sys

import numpy as np
import pytest

from trainables.data.preparation.picture_encoder import picture_encoder
from trainables.data.preparation.text_encoder import sentence_encoder
from trainables.errors import DataError

HAS_TEXTS = importlib.util.find_spec("sentence_transformers") is not None
HAS_PICTURES = importlib.util.find_spec("timm") is not None
with_texts = pytest.mark.skipif(not HAS_TEXTS, reason="needs the extra `features` (sentence-transformers)")
with_pictures = pytest.mark.skipif(not HAS_PICTURES, reason="needs the extra `features` (timm)")


@pytest.mark.skipif(HAS_TEXTS, reason="sentence-transformers is installed")
def test_without_the_extra_texts_are_an_error_that_says_what_to_install():
    with pytest.raises(DataError, match=r"pip install 'recsweep\[features\]', or give --text-model none"):
        sentence_encoder("any").load()


@pytest.mark.skipif(HAS_PICTURES, reason="timm is installed")
def test_without_the_extra_pictures_are_an_error_that_says_what_to_install():
    with pytest.raises(DataError, match=r"pip install 'recsweep\[features\]', or give the published features"):
        picture_encoder("resnet50").load()


@pytest.mark.parametrize(
    ("module", "load"),
    [
        ("sentence_transformers", lambda: sentence_encoder("any").load()),
        ("timm", lambda: picture_encoder("any").load()),
    ],
)
def test_a_package_that_is_installed_and_broken_is_an_error_that_says_how(tmp_path, monkeypatch, module, load):
    # As where torchvision does not fit PyTorch: the import raises what is no ImportError.
    (tmp_path / f"{module}.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(DataError, match=r"installed but cannot be loaded: operator torchvision::nms does not exist; "):
        load()


@pytest.mark.filterwarnings("default")
@with_texts
def test_a_sentence_model_in_a_folder_encodes_texts_one_row_each(tmp_path):
    import transformers
    from sentence_transformers import SentenceTransformer, models

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cup", "lid"]))
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=7, **sizes))
    bert.save_pretrained(tmp_path / "bert")
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    words = models.Transformer(str(tmp_path / "bert"))
    SentenceTransformer(modules=[words, models.Pooling(8)], device="cpu").save(str(tmp_path / "tiny"))
    encoder = sentence_encoder(str(tmp_path / "tiny"), "cpu")
    rows = encoder.load()(["cup", "lid", "cup lid", "cup"])
    assert rows.shape == (4, 8) and np.isfinite(rows).all()
    np.testing.assert_allclose(rows[0], rows[3], rtol=1e-5)
    assert encoder.name.startswith("sentence-transformers:tiny@")


@pytest.mark.filterwarnings("default")
@with_pictures
def test_a_picture_model_with_local_weights_encodes_pictures_and_marks_what_is_none(tmp_path):
    import timm
    from PIL import Image
    from safetensors.torch import save_file

    model = timm.create_model("resnet10t", pretrained=False)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    for name, colour in (("a.jpg", "red"), ("b.png", "blue")):
        Image.new("RGB", (30, 20), colour).save(tmp_path / name)
    (tmp_path / "c.jpg").write_text("no picture")
    paths = [str(tmp_path / name) for name in ("a.jpg", "c.jpg", "b.png")]
    first, second = (picture_encoder("resnet10t", tmp_path / "w.safetensors", "cpu").load()(paths) for _ in range(2))
    assert first.shape == (3, 512) and np.isfinite(first[[0, 2]]).all() and np.isnan(first[1]).all()
    np.testing.assert_array_equal(first, second)
    assert (first[0] != first[2]).any()
