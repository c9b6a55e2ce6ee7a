"""Models that read captions: trained, sampled by prompts, evaluated, resumed and distilled."""

import functools
import json

import pytest
import torch

import flowgen
import flowgen.data.emoji
from flowgen.cli import main
from flowgen.data.emoji_list import list_emoji

SMALL = [
    *("data=emoji", "data.size=8", "data.batch_size=8", "trainer=cpu", "callbacks=quiet"),
    *("text_encoder.width=12", "text_length=5", "sampler.num_steps=2"),
]
SMALL_NETWORK = ["model.width=16", "model.depth=1", "model.heads=2"]
UNET = [
    *("model.channels=[8,16]", "model.attention_levels=[1]", "model.num_blocks=1"),
    *("model.head_width=4", "model.groups=4"),
]
NETWORKS = {
    "dit_tiny": SMALL_NETWORK,
    "mmdit": SMALL_NETWORK,
    "mmdit_tiny": SMALL_NETWORK,
    "uvit_tiny": SMALL_NETWORK,
    "unet2d": UNET,
}


@functools.cache
def _few():
    return list_emoji()[300:2000:20]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(flowgen.data.emoji, "list_emoji", _few)


def train(folder, *words, steps=2):
    given = [f"run_dir={folder}", f"trainer.max_steps={steps}", *SMALL, *words]
    return main(["train", *given])


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flowgen.data.emoji, "list_emoji", _few)
        folder = tmp_path_factory.mktemp("text") / "run"
        assert train(folder, "model=mmdit_tiny", *SMALL_NETWORK, steps=8) == 0
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_and_reload_without_their_data(name, tmp_path):
    assert train(tmp_path / "run", f"model={name}", *NETWORKS[name]) == 0
    (tmp_path / "run" / "config.yaml").unlink()
    pipeline = flowgen.load(tmp_path / "run", device="cpu")
    assert pipeline.conditioner.kinds == ("label", "prompt")
    samples = pipeline.sample(3, seed=1)
    assert torch.equal(samples, pipeline.sample(3, seed=1, chunk=2))


def test_prompts_decide_and_take_turns(model):
    pipeline = flowgen.load(model, device="cpu")
    torch.nn.init.normal_(pipeline.field.network.out.weight, std=0.3)
    hearts = pipeline.sample(2, cond={"prompt": "red heart"}, decode=False)
    both = pipeline.sample(4, cond={"prompt": ["red heart", "blue car"]}, decode=False)
    # Kernels sum in another order for another number of rows.
    torch.testing.assert_close(hearts[0], both[0], rtol=1e-4, atol=1e-5)
    assert (hearts[1] - both[1]).abs().max() > 1e-3
    again = pipeline.sample(2, cond={"prompt": ["red heart", "blue car"]}, first=2, decode=False)
    torch.testing.assert_close(again, both[2:], rtol=1e-4, atol=1e-5)
    labelled = pipeline.sample(2, label=0, cond={"prompt": "red heart"}, decode=False)
    assert not torch.equal(labelled, hearts)


def test_nothing_asked_for_takes_rows_of_the_data_in_turn(model):
    pipeline = flowgen.load(model, device="cpu")
    examples = pipeline.conditioner.examples
    assert set(examples[0]) == {"label", "prompt"}
    asked = {name: [example[name] for example in examples[:3]] for name in ("label", "prompt")}
    given = pipeline.sample(3, cond=asked, decode=False)
    torch.testing.assert_close(pipeline.sample(3, decode=False), given, rtol=0, atol=0)
    data = flowgen.data.EmojiData(size=8)
    names = {data.captions[i]: label for i, label in _rows(data)}
    for example in examples:
        assert names[example["prompt"]] == example["label"]


def _rows(data):
    batch = data.train.__getitems__(list(range(len(data.train))))
    return zip(batch["caption"].tolist(), batch["label"].tolist(), strict=True)


def test_the_command_line_samples_prompts(model, tmp_path, capsys):
    out = tmp_path / "picture.png"
    words = ["sample", f"checkpoint={model}", f"out={out}", "num_samples=2"]
    assert main([*words, "prompt=[red heart,a blue car]", "guidance.scale=2"]) == 0
    assert out.is_file()
    for bad, reason in {
        "prompt=3": "a prompt must be text",
        "prompt=[a,b,c]": "3 prompts for 2 samples",
        "style=twemoji": "takes no style='twemoji': it takes label, prompt",
        "label=Flowers": "label 'Flowers' does not exist",
    }.items():
        capsys.readouterr()
        assert main([*words, bad]) == 2
        err = capsys.readouterr().err.strip().splitlines()
        assert reason in err[-1], err
        assert len(err) == 1


def test_a_model_of_text_is_evaluated_on_held_out_captions(model, tmp_path):
    out = tmp_path / "figures.json"
    words = ["num_samples=6", f"out={out}", "extractor=pixels", "path_steps=2", "path_samples=4"]
    measures = "measures=[image_distance,labels,paths,likelihood]"
    small = ["measure.likelihood.num_samples=2", "measure.image_distance.max_reference=8"]
    assert main(["evaluate", f"checkpoint={model}", *words, measures, *small]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert set(figures) >= {"paths", "labels"}


def test_a_student_reads_what_its_teacher_reads(model, tmp_path):
    words = ["distill=velocity_matching", "data.batch_size=8", "trainer=cpu", "callbacks=quiet"]
    small = ["trainer.max_steps=2", "table.num_samples=0", f"run_dir={tmp_path / 'run'}"]
    assert main(["distill", f"teacher={model}", *words, *small]) == 0
    student = flowgen.load(tmp_path / "run", device="cpu")
    teacher = flowgen.load(model, device="cpu")
    assert student.conditioner.kinds == teacher.conditioner.kinds
    assert student.conditioner.parts["prompt"].length == 5
    assert student.sample(2, cond={"prompt": "red heart"}).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    "method", ["inductive_moment_matching", "mean_flow_guided", "improved_mean_flow_guided"]
)
def test_methods_that_look_at_conditions_read_text_as_well(method, model, tmp_path):
    words = [f"distill={method}", "data.batch_size=8", "trainer=cpu", "callbacks=quiet"]
    small = ["trainer.max_steps=2", "table.num_samples=0", f"run_dir={tmp_path / 'run'}"]
    assert main(["distill", f"teacher={model}", *words, *small]) == 0
    student = flowgen.load(tmp_path / "run", device="cpu")
    assert student.sample(2, cond={"prompt": "red heart"}).shape == (2, 3, 8, 8)


def test_a_run_is_resumed_with_its_captions(tmp_path):
    assert train(tmp_path / "run", "model=dit_tiny", *SMALL_NETWORK) == 0
    before = flowgen.load(tmp_path / "run", weights="raw").conditioner.examples
    assert main(["train", f"resume={tmp_path / 'run'}", "trainer.max_steps=4"]) == 0
    after = flowgen.load(tmp_path / "run", weights="raw")
    assert after.conditioner.examples == before
    assert after.about["step"] == 4


def test_conditions_can_be_chosen(tmp_path):
    words = ["model=dit_tiny", *SMALL_NETWORK]
    assert train(tmp_path / "a", *words, "conditional=[prompt]") == 0
    assert flowgen.load(tmp_path / "a").conditioner.kinds == ("prompt",)
    assert train(tmp_path / "b", *words, "conditional=[label]") == 0
    assert flowgen.load(tmp_path / "b").conditioner.kinds == ("label",)
    assert train(tmp_path / "c", *words, "conditional=false") == 0
    assert flowgen.load(tmp_path / "c").conditioner is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["model=mmdit_tiny", "data=digits"], "MMDiT reads text, and there is none"),
        (["model=dit_tiny", "conditional=[style]"], "has no style; it has label, prompt"),
        (["model=unet", "conditional=[prompt]"], "this model reads no text"),
        (["model=dit_tiny", "coupling=exact_assignment"], "makes the noise depend"),
    ],
)
def test_what_cannot_work_is_told(words, reason, tmp_path, capsys):
    settings = [word for word in SMALL if not word.startswith(("data=", "data.size"))]
    data = [] if any(word.startswith("data=") for word in words) else ["data=emoji", "data.size=8"]
    run = [f"run_dir={tmp_path / 'run'}", "trainer.max_steps=1"]
    assert main(["train", *run, *settings, *data, *words]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert reason in err[-1], err
    assert not (tmp_path / "run").exists()


def test_two_styles_are_a_condition_of_their_own(tmp_path):
    words = ["model=dit_tiny", *SMALL_NETWORK, "data.styles=[twemoji,openmoji]"]
    assert train(tmp_path / "run", *words) == 0
    pipeline = flowgen.load(tmp_path / "run")
    assert pipeline.conditioner.kinds == ("label", "style", "prompt")
    asked = {"style": "openmoji", "prompt": "red heart"}
    assert pipeline.sample(2, cond=asked).shape == (2, 3, 8, 8)
