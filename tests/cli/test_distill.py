"""``flowgen distill``: every method makes a student of a trained model, and says how good it is."""

import json
import math

import pytest
import torch
from omegaconf import OmegaConf

import flowgen
from flowgen.cli import config_dir, main
from flowgen.cli.few_steps import NAME, check_table
from flowgen.cli.student import guided_teacher_of
from flowgen.core import InputError

METHODS = sorted(file.stem for file in (config_dir() / "distill").glob("*.yaml"))
SMALL = [
    *("data.batch_size=32", "trainer.max_steps=4", "table.num_samples=0", "threads=1"),
    *("callbacks.beside_teacher.num_errors=4", "callbacks.beside_teacher.num_samples=2"),
    *("callbacks.beside_teacher.reference_steps=2", "callbacks.sample_grid.num_samples=4"),
]
TEACHERS = {
    "points": [
        *("data=moons", "data.num_train=500", "data.num_test=50"),
        *("model=mlp", "model.width=32", "model.depth=2", "trainer.max_steps=150"),
    ],
    "images": [
        *("data=digits", "model=dit_tiny", "model.width=16", "model.depth=1", "model.heads=2"),
        *("trainer.max_steps=150",),
    ],
}


def trained(kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp(kind) / "teacher"
    words = [*TEACHERS[kind], "data.batch_size=64", "trainer=cpu", "callbacks=quiet"]
    assert main(["train", *words, f"run_dir={folder}", "optimizer.lr=3e-3"]) == 0
    return folder


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    return trained("points", tmp_path_factory)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return trained("images", tmp_path_factory)


def distil(teacher, folder, *words, small=SMALL):
    return main(
        ["distill", f"teacher={teacher}", f"run_dir={folder}", "trainer=cpu", *small, *words]
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_a_student_that_reloads(method, images, tmp_path, capsys):
    start = [f"checkpoint={images}"] if method == "velocity_distillation" else []
    code = distil(images, tmp_path / "run", f"distill={method}", *start)
    assert code == 0, capsys.readouterr().err
    one, other = (flowgen.load(tmp_path / "run", device="cpu") for _ in range(2))
    samples = one.sample(4, seed=1)
    assert bool(samples.double().isfinite().all())
    assert torch.equal(samples, other.sample(4, seed=1))
    assert sorted((tmp_path / "run" / "samples").glob("beside_*.png"))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_sets_the_share_of_dropped_labels(method):
    """A forgotten one would train on null labels that nobody samples with."""
    assert "label_dropout" in OmegaConf.load(config_dir() / "distill" / f"{method}.yaml")


def test_student_starts_as_its_teacher(points, tmp_path):
    """With a learning rate of nothing it stays so, in a network that is told intervals too."""
    for method in ("velocity_matching", "align_your_flow"):
        folder = tmp_path / method
        assert distil(points, folder, f"distill={method}", "optimizer.lr=1e-30") == 0
        student, teacher = (flowgen.load(f, device="cpu").field for f in (folder, points))
        x, s = torch.randn(16, 2), torch.rand(16)
        u = student.mean_velocity(x, s, torch.ones(16))
        torch.testing.assert_close(u, teacher(x, s), rtol=0, atol=1e-6)


def test_layers_that_the_teacher_does_not_have_are_named(points, tmp_path, capsys):
    """The teacher's own network has all it needs; a map to any time is told the length too."""
    assert distil(points, tmp_path / "own", "distill=one_step") == 0
    assert "student   starts as its teacher, in all layers" in capsys.readouterr().out
    assert distil(points, tmp_path / "map", "distill=mean_flow") == 0
    said = capsys.readouterr().out
    line = next(each for each in said.splitlines() if each.startswith("student   starts"))
    assert line.startswith("student   starts as its teacher; new, with no effect yet: ")
    assert "interval" in line


def test_table_has_student_beside_teacher(points, tmp_path, capsys):
    small = [word for word in SMALL if not word.startswith("table")]
    words = ["table.num_samples=64", "table.num_steps=[1,2]", "table.reference_steps=4"]
    folder = tmp_path / "run"
    assert distil(points, folder, "distill=align_your_flow", *words, small=small) == 0
    rows = json.loads((folder / NAME).read_text())["rows"]
    assert [(row["sampler"], row["num_steps"], row["nfe"]) for row in rows] == [
        ("teacher", 1, 1),
        ("teacher", 2, 2),
        ("teacher, best", 4, 8),
        ("student", 1, 1),
        ("student", 2, 2),
    ]
    assert rows[2]["rmse_to_teacher"] == 0
    assert all(math.isfinite(row["w2"]) for row in rows)
    assert (folder / NAME).with_suffix(".png").is_file()
    assert "rmse_to_teacher" in capsys.readouterr().out
    assert "distill/error_1" in (folder / "metrics.csv").read_text().splitlines()[0]


def test_samples_with_new_noise_have_no_partner_of_the_teachers(points, tmp_path):
    small = [word for word in SMALL if not word.startswith("table")]
    words = ["table.num_samples=16", "table.num_steps=[1,2]", "table.reference_steps=2"]
    folder = tmp_path / "run"
    assert distil(points, folder, "distill=velocity_matching", *words, small=small) == 0
    rows = json.loads((folder / NAME).read_text())["rows"]
    told = {
        row["num_steps"]: "rmse_to_teacher" in row for row in rows if row["sampler"] == "student"
    }
    assert told == {1: True, 2: False}


def test_interrupted_and_resumed_is_the_same_student(points, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    method = ["distill=align_your_flow", "callbacks.checkpoints.every_n_steps=2"]
    schedule = "lr_schedule=warmup_constant"
    long = [word for word in SMALL if "max_steps" not in word]
    # Ramps are a share of the run, so the length stays and the run is cut by its checkpoint.
    assert distil(points, whole, *method, schedule, "trainer.max_steps=6", small=long) == 0
    assert distil(points, parts, *method, schedule, "trainer.max_steps=6", small=long) == 0
    for file in (parts / "checkpoints").glob("*.ckpt"):
        if file.name != "step_0000004.ckpt":
            file.unlink()
    (parts / "checkpoints" / "step_0000004.ckpt").rename(parts / "checkpoints" / "last.ckpt")
    assert main(["train", f"resume={parts}"]) == 0
    states = [flowgen.load(f, device="cpu").field.state_dict() for f in (whole, parts)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("method", ["mean_flow_guided", "improved_mean_flow_guided"])
def test_guidance_from_data_needs_labels(method, points, tmp_path, capsys):
    assert distil(points, tmp_path / "run", f"distill={method}") == 2
    assert "needs a model with labels" in capsys.readouterr().err


REFUSED = {
    ("model=dit_tiny",): "model cannot be set: a student has it from its teacher",
    ("path=trig",): "path cannot be set: a student has it from its teacher",
    ("model.width=8",): "model.width cannot be set",
    ("data=digits",): "data and teacher differ in",
    ("sampler=heun",): "knows no velocity for Heun",
    ("guidance.scale=2",): "needs a label-conditional or text-conditional model",
    ("callbacks.beside_teacher.num_steps=[0]",): "num_steps must be >= 1",
    ("table.num_steps=[0]",): "table.num_steps must be whole numbers >= 1, got [0]",
    ("table.num_steps=[]",): "table.num_steps must be whole numbers >= 1, got []",
    ("table.reference_steps=0",): "table.reference_steps must be a whole number >= 1, got 0",
    ("table.chunk=0",): "table.chunk must be a whole number >= 1, got 0",
    ("table.seed=-1",): "table.seed must be a whole number >= 0, got -1",
    ("table.num_samples=1",): "table.num_samples must be a whole number >= 2, or 0 for no table",
    ("table.num_samples=-3",): "table.num_samples must be a whole number >= 2, or 0 for no table",
    ("table.num_samples=9", "table.measures.transport.max_points=1"): "max_points must be >= 2",
}


@pytest.mark.parametrize("words", REFUSED)
def test_bad_input_is_told_in_one_line_and_leaves_nothing(words, points, tmp_path, capsys):
    folder = tmp_path / "run"
    assert distil(points, folder, "distill=velocity_matching", *words) == 2
    error = capsys.readouterr().err
    assert REFUSED[words] in error
    assert len(error.strip().splitlines()) == 1
    assert not folder.exists()


def test_steps_of_a_piecewise_student_end_at_its_edges(points, tmp_path, capsys):
    words = ["distill=piecewise_reflow", "trainer.max_steps=1", "table.num_samples=0"]
    assert distil(points, tmp_path / "no", *words, "sampler.num_steps=3") == 2
    error = capsys.readouterr().err
    assert "sampler.num_steps=3: a step would cross the edge at 0.25" in error
    assert not (tmp_path / "no").exists()
    assert distil(points, tmp_path / "run", *words, "sampler.num_steps=8") == 0


def test_velocity_distillation_alone_needs_a_student(points, tmp_path, capsys):
    assert distil(points, tmp_path / "run", "distill=velocity_distillation") == 2
    error = capsys.readouterr().err
    assert "give checkpoint=<run of distill=velocity_matching>" in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_one_setting_of_the_teachers_data_can_be_changed(points, tmp_path, capsys):
    words = ["distill=velocity_matching", "trainer.max_steps=1", "table.num_samples=0"]
    own = OmegaConf.load(points / "config.yaml").data
    assert distil(points, tmp_path / "run", *words, "+data.distribution.noise=0.5") == 0
    found = OmegaConf.load(tmp_path / "run" / "config.yaml").data
    own.distribution.noise, own.batch_size = 0.5, 32
    assert found == own
    capsys.readouterr()
    assert distil(points, tmp_path / "no", *words, "data.distribution.noise=0.5") == 2
    assert "it belongs to data=moons" in capsys.readouterr().err


def test_a_method_from_data_follows_a_teacher_by_overrides(points, tmp_path, capsys):
    """Their values are nodes of the config: read as text, they would be no text to parse."""
    words = [
        "distill=mean_flow",
        "trainer.max_steps=2",
        "objective.velocity._target_=flowgen.distill.OfTeacher",
        "+objective.velocity.teacher=${teacher_field}",
    ]
    folder = tmp_path / "run"
    assert distil(points, folder, *words) == 0, capsys.readouterr().err
    objective = OmegaConf.load(folder / "config.yaml").objective
    assert objective.velocity.teacher.checkpoint == str(points)


def test_autoguidance_is_distilled_and_moves_with_the_teacher(points, tmp_path, capsys):
    small = [word for word in SMALL if not word.startswith(("table", "trainer.max"))]
    words = [
        *("distill=align_your_flow", "trainer.max_steps=2", "guidance=auto"),
        *("guidance.scale=2", f"guidance.checkpoint={points}", "guidance.weights=raw"),
        *("table.num_samples=8", "table.num_steps=[1]", "table.reference_steps=2"),
    ]
    folder = tmp_path / "run"
    assert distil(points, folder, *words, small=small) == 0, capsys.readouterr().err
    rows = json.loads((folder / NAME).read_text())["rows"]
    assert [row["nfe"] for row in rows if row["sampler"] == "teacher"] == [1]
    guided = guided_teacher_of(OmegaConf.load(folder / "config.yaml"))
    try:
        # Stands in for another device: what is no part of the pipeline would stay as it was.
        moved = {p.dtype for p in guided.double().velocity().parameters()}
    finally:
        guided.float()
    assert moved == {torch.float64}


def test_autoguidance_works_in_verbs_with_a_device_and_without(points, tmp_path, capsys):
    words = ["guidance=auto", f"guidance.checkpoint={points}", "guidance.scale=2"]
    sample = ["sample", f"checkpoint={points}", "num_samples=2", "device=cpu", *words]
    assert main([*sample, f"out={tmp_path / 'a.npz'}"]) == 0, capsys.readouterr().err
    node = OmegaConf.load(config_dir() / "guidance" / "auto.yaml")
    for others, expected in (({"device": "cuda:1"}, "cuda:1"), ({}, "cpu")):
        assert OmegaConf.create({"guidance": node, **others}).guidance.device == expected


def test_table_needs_held_out_samples():
    table = {"num_samples": 9, "num_steps": [1], "reference_steps": 1, "chunk": 1, "seed": 0}
    cfg = OmegaConf.create({"table": {**table, "measures": {}}})
    check_table(cfg, 2)
    with pytest.raises(InputError, match="write table.num_samples=0 for no table"):
        check_table(cfg, 1)


def test_checkpoint_beside_a_teacher_has_its_conventions(points, tmp_path, capsys):
    student = tmp_path / "student"
    assert distil(points, student, "distill=velocity_matching") == 0
    second = ["distill=truncated_consistency", "trainer.max_steps=1"]
    assert distil(points, tmp_path / "run", *second, f"checkpoint={student}") == 0
    for word, name in {
        "path=vp": "path",
        "prediction=noise": "prediction",
        "data_std=2": "data_std",
        "data.standardize=true": "codec",
    }.items():
        other = tmp_path / name
        train = ["train", *TEACHERS["points"], "trainer=cpu", "callbacks=quiet"]
        assert main([*train, "trainer.max_steps=1", f"run_dir={other}", word]) == 0, name
        capsys.readouterr()
        assert distil(points, tmp_path / "no", *second, f"checkpoint={other}") == 2
        error = capsys.readouterr().err
        assert f"differ in {name}: " in error
        assert len(error.strip().splitlines()) == 1
        assert not (tmp_path / "no").exists()


def test_a_teacher_of_other_data_is_refused_beside_a_checkpoint_too(points, tmp_path, capsys):
    student = tmp_path / "student"
    assert distil(points, student, "distill=velocity_matching", "trainer.max_steps=1") == 0
    capsys.readouterr()
    backwards = tmp_path / "backwards.safetensors"
    pipeline = flowgen.load(points, device="cpu")
    turned(pipeline.field.network)
    flowgen.pipeline.save(pipeline, backwards)
    words = ["distill=truncated_consistency", f"checkpoint={student}"]
    assert distil(backwards, tmp_path / "run", *words) == 2
    assert "does not fit the data" in capsys.readouterr().err


def turned(network):
    """Let a network predict the velocity from data to noise."""
    last = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
    for parameter in last.parameters():
        parameter.data.neg_()


def test_teachers_that_are_none(points, tmp_path, capsys):
    assert main(["train", "distill=velocity_matching", "data=moons", "model=mlp"]) == 2
    assert "use flowgen distill teacher=<run>" in capsys.readouterr().err
    assert distil(tmp_path / "nothing", tmp_path / "run", "distill=velocity_matching") == 2
    assert "no checkpoint" in capsys.readouterr().err
    assert distil(points, tmp_path / "student", "distill=velocity_matching") == 0
    capsys.readouterr()
    assert distil(tmp_path / "student", tmp_path / "run", "distill=velocity_matching") == 2
    assert "itself a student" in capsys.readouterr().err


def test_flow_maps_are_also_trained_from_nothing(tmp_path, capsys):
    """Methods that need no teacher are methods of training as well."""
    words = [*TEACHERS["points"], "distill=mean_flow", "data.batch_size=32", "trainer.max_steps=3"]
    assert main(["train", *words, "trainer=cpu", f"run_dir={tmp_path / 'run'}"]) == 0
    samples = flowgen.load(tmp_path / "run", device="cpu").sample(4)
    assert bool(samples.isfinite().all())
