"""``flowgen distill guidance_range=[1,4]``: one student for all scales, never evaluated twice."""

import json

import pytest
import torch

import flowgen
from flowgen.cli import main
from flowgen.cli.few_steps import NAME

SMALL = [
    *("trainer=cpu", "data.batch_size=32", "trainer.max_steps=3", "threads=1"),
    *("callbacks=quiet", "table.num_samples=0", "guidance_range=[1,4]", "guidance.scale=2"),
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told") / "teacher"
    words = [
        *("data=digits", "model=mlp_image", "model.width=32", "model.depth=2", "trainer=cpu"),
        *("callbacks=quiet", "data.batch_size=64", "trainer.max_steps=120", "optimizer.lr=3e-3"),
    ]
    assert main(["train", *words, f"run_dir={folder}"]) == 0
    return folder


def distil(teacher, folder, *words):
    return main(["distill", f"teacher={teacher}", f"run_dir={folder}", *SMALL, *words])


METHODS = ["align_your_flow", "trigflow_consistency", "dmd", "reflow", "phased_consistency"]


@pytest.mark.parametrize("method", METHODS)
def test_student_is_sampled_at_any_scale_without_doubling(method, teacher, tmp_path, capsys):
    folder = tmp_path / "run"
    words = [f"distill={method}", "optimizer.lr=3e-2", "lr_schedule=warmup_constant"]
    assert distil(teacher, folder, *words) == 0, capsys.readouterr().err
    student = flowgen.load(folder, weights="raw", device="cpu")
    steps = student.sampler.num_steps
    assert student.guided(3.0).nfe() == student.nfe() == steps
    seen = []
    handle = student.field.network.register_forward_pre_hook(lambda _, given: seen.append(given))
    student.guided(3.0).sample(4, seed=1, decode=False)
    handle.remove()
    # Rows of the network: guidance by two evaluations would double them.
    assert [len(x) for x, *_ in seen] == [4] * steps
    plain, same, strong = (
        student.guided(scale).sample(4, seed=1, decode=False) for scale in (1.0, 1.0, 4.0)
    )
    assert torch.equal(student.sample(4, seed=1, decode=False), plain)
    assert torch.equal(plain, same)
    assert float((plain - strong).abs().max()) > 1e-6
    with pytest.raises(flowgen.core.InputError, match="guidance.scale=5 is outside"):
        student.guided(5.0)


def test_student_starts_as_its_unguided_teacher_at_every_scale(teacher, tmp_path):
    folder = tmp_path / "run"
    assert distil(teacher, folder, "distill=align_your_flow", "optimizer.lr=1e-30") == 0
    student, field = (flowgen.load(f, device="cpu").field for f in (folder, teacher))
    x, s = torch.randn(8, 1, 8, 8), torch.rand(8)
    label, scale = torch.arange(8), torch.linspace(1, 4, 8)
    u = student.mean_velocity(x, s, torch.ones(8), {"label": label, "guidance": scale})
    torch.testing.assert_close(u, field(x, s, {"label": label}), rtol=0, atol=1e-6)


def test_table_and_sampling_take_the_scale(teacher, tmp_path, capsys):
    folder = tmp_path / "run"
    table = ["table.num_samples=16", "table.num_steps=[1]", "table.reference_steps=2"]
    words = ["distill=align_your_flow", *table, "table.measures.image_distance.extractor=pixels"]
    assert distil(teacher, folder, *words) == 0, capsys.readouterr().err
    rows = json.loads((folder / NAME).read_text())["rows"]
    assert [row["nfe"] for row in rows if row["sampler"] == "teacher"] == [1]
    assert [row["nfe"] for row in rows if row["sampler"] == "student"] == [1]
    sample = [
        "sample",
        f"checkpoint={folder}",
        "num_samples=2",
        "device=cpu",
        "sampler.num_steps=1",
    ]
    assert main([*sample, "guidance.scale=3", f"out={tmp_path / 'a.npz'}"]) == 0
    capsys.readouterr()
    for word, told in {
        "guidance.scale=9": "guidance.scale=9 is outside of the range",
        "guidance.rescale=0.5": "only guidance.scale can be chosen",
    }.items():
        assert main([*sample, word, f"out={tmp_path / 'b.npz'}"]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert len(error.strip().splitlines()) == 1
        assert not (tmp_path / "b.npz").exists()


REFUSED = {
    ("distill=mean_flow",): "does not follow the teacher's velocity",
    ("distill=velocity_matching", "guidance_range=[2,4]"): "guidance_range must be two rising",
    ("distill=velocity_matching", "guidance_range=3"): "e.g. [1, 4], got 3",
    ("distill=velocity_matching", "guidance_range=[1,many]"): "e.g. [1, 4], got [1, 'many']",
    ("distill=velocity_matching", "guidance.scale=5"): "guidance.scale=5 is outside of the range",
    ("distill=velocity_matching", "guidance.rescale=0.5"): "without guidance.rescale",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_told_in_one_line(words, teacher, tmp_path, capsys):
    folder = tmp_path / "run"
    assert distil(teacher, folder, *words) == 2
    error = capsys.readouterr().err
    assert REFUSED[words] in error
    assert len(error.strip().splitlines()) == 1
    assert not folder.exists()


def test_a_told_student_is_no_teacher(teacher, tmp_path, capsys):
    first = tmp_path / "first"
    assert distil(teacher, first, "distill=align_your_flow", "trainer.max_steps=1") == 0
    capsys.readouterr()
    assert distil(first, tmp_path / "second", "distill=align_your_flow") == 2
    assert "is itself a student that is told its guidance" in capsys.readouterr().err
