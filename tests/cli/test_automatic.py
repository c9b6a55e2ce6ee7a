"""What flowgen decides where a setting is null, and that a run keeps what was decided."""

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import flowgen
from flowgen.cli import automatic, main
from flowgen.data import Identity
from flowgen.integrators import Euler, Sampler, Uniform
from flowgen.models import MLP, DiT, LabelConditioner, PredictionField
from flowgen.paths import AffinePath, Linear, Velocity
from flowgen.pipeline import Pipeline

BATCH = 64


def pipeline(network, shape=(1, 8, 8)):
    field = PredictionField(network, AffinePath(Linear()), Velocity())
    conditioner = LabelConditioner(10) if isinstance(network, DiT) else None
    sampler = Sampler(Euler(), Uniform(), 2)
    return Pipeline(field, flowgen.data.Gaussian(shape), sampler, Identity(), conditioner)


def large():
    return pipeline(DiT((1, 8, 8), 10, patch=4, width=128, depth=3, heads=4))


def config(**trainer):
    machine = {"accelerator": "cpu", "devices": 1, "max_steps": 10, "precision": None}
    return OmegaConf.create(
        {
            "trainer": {**machine, **trainer},
            "data": {"batch_size": BATCH},
            "teacher": None,
            "compile": None,
            "threads": None,
            "debug": False,
        }
    )


@pytest.fixture
def fast(monkeypatch):
    """A CPU that is faster in bfloat16 and has a compiler; its threads are left alone."""
    monkeypatch.setattr(automatic, "cpu_prefers_bfloat16", lambda: True)
    monkeypatch.setattr(automatic, "can_compile", lambda: True)
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(automatic, "usual_threads", lambda: 6)
    return threads


def decided(cfg, made):
    automatic.fill_choices(cfg, made)
    return cfg.trainer.precision


def test_large_networks_of_images_compute_in_bfloat16_where_that_is_faster(fast, monkeypatch):
    assert decided(config(), large()) == "bf16-mixed"
    monkeypatch.setattr(automatic, "cpu_prefers_bfloat16", lambda: False)
    assert decided(config(), large()) == "32-true"


def test_others_stay_in_float32_and_nothing_is_measured(fast, monkeypatch):
    monkeypatch.setattr(automatic, "cpu_prefers_bfloat16", lambda: 1 / 0)
    small = pipeline(DiT((1, 8, 8), 10, patch=4, width=16, depth=1, heads=2))
    points = pipeline(MLP((2,), width=2048, depth=3), (2,))
    assert automatic.evaluation_operations(points) * BATCH > automatic.WORTH_HALF
    for made in (small, points):
        assert decided(config(), made) == "32-true"
    assert decided(config(devices=2), large()) == "32-true"
    student = config()
    student.teacher = {"checkpoint": "run"}
    assert decided(student, large()) == "32-true"


def test_what_is_given_is_kept(fast, monkeypatch):
    for name in ("32-true", "bf16-mixed", "64-true"):
        assert decided(config(precision=name), large()) == name
    fast.clear()
    cfg = config(max_steps=10**9)
    cfg.compile, cfg.threads = False, 3
    automatic.fill_choices(cfg, large())
    assert (cfg.compile, fast) == (False, [])


def test_a_run_is_compiled_where_it_is_long_and_the_compiler_works(fast, monkeypatch):
    step = 3 * BATCH * automatic.evaluation_operations(large())
    enough = int(automatic.WORTH_COMPILING / step) + 1
    for steps, expected in ((enough, True), (enough - 2, False)):
        cfg = config(max_steps=steps)
        automatic.fill_choices(cfg, large())
        assert cfg.compile is expected
    monkeypatch.setattr(automatic, "can_compile", lambda: False)
    cfg = config(max_steps=enough)
    automatic.fill_choices(cfg, large())
    assert cfg.compile is False


def test_small_networks_take_one_thread(fast):
    automatic.fill_choices(config(), pipeline(MLP((2,), width=64, depth=3), (2,)))
    automatic.fill_choices(config(), large())
    assert fast == [1, 6]


def test_operations_are_two_for_each_weight_and_place(generator):
    """A perceptron uses each weight of its layers once; attention adds two products of tokens."""
    made = pipeline(MLP((2,), width=32, depth=2), (2,))
    layers = [m for m in made.field.modules() if isinstance(m, nn.Linear)]
    weights = sum(m.in_features * m.out_features for m in layers)
    assert automatic.evaluation_operations(made) == 2 * weights
    made = large()
    network = made.field.network
    assert isinstance(network, DiT)
    tokens, once = 4, {network.modulation, *network.condition.modules()}
    expected = 0
    for module in network.modules():
        if isinstance(module, nn.Linear):
            places = 1 if module in once else tokens
            expected += 2 * places * module.in_features * module.out_features
    attention = 3 * 2 * (2 * tokens * tokens * 128)
    with sdpa_kernel(SDPBackend.MATH):
        assert automatic.evaluation_operations(made) == expected + attention


def test_counting_draws_nothing(fast):
    made = large()
    state = torch.get_rng_state()
    automatic.fill_choices(config(), made)
    assert torch.equal(torch.get_rng_state(), state)
    assert made.field.training


TRAIN = ["train", "data=digits", "model=dit_tiny", "data.batch_size=64", "trainer.accelerator=cpu"]
TRAIN += ["callbacks=quiet", "run_dir=run", "optimizer.lr=0.05"]  # three steps must show


def test_a_run_keeps_what_was_decided_and_samples_stay_close(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(automatic, "cpu_prefers_bfloat16", lambda: True)
    assert main([*TRAIN, "trainer.max_steps=3"]) == 0
    assert "precision bf16-mixed" in capsys.readouterr().out
    cfg = OmegaConf.load("run/config.yaml")
    assert (cfg.trainer.precision, cfg.compile) == ("bf16-mixed", False)
    # Another machine, or another outcome of the measurement, leaves the run what it is.
    monkeypatch.setattr(automatic, "cpu_prefers_bfloat16", lambda: False)
    assert main([*TRAIN, "trainer.max_steps=3", "resume=auto"]) == 0
    assert "has taken all its 3 steps" in capsys.readouterr().out
    assert main([*TRAIN, "trainer.max_steps=3", "resume=auto", "trainer.precision=32-true"]) == 2
    assert "differs in trainer.precision" in capsys.readouterr().err

    sample = ["sample", "checkpoint=run", "weights=raw", "num_samples=64", "device=cpu"]
    sample += ["sampler.num_steps=2"]
    drawn = {}
    for name in ("null", "32-true", "bf16-mixed"):
        assert main([*sample, f"precision={name}", f"out={name}.pt"]) == 0
        drawn[name] = torch.load(f"{name}.pt", weights_only=True)["samples"].float()
    assert torch.equal(drawn["null"], drawn["32-true"])
    assert 0 < (drawn["bf16-mixed"] - drawn["32-true"]).abs().mean() < 5  # of 255
    monkeypatch.setattr(automatic, "cpu_prefers_bfloat16", lambda: True)
    assert main([*sample, "out=fast.pt"]) == 0
    assert torch.equal(torch.load("fast.pt", weights_only=True)["samples"], drawn["bf16-mixed"])
    capsys.readouterr()
    assert main([*sample, "precision=16"]) == 2
    assert "precision must be 32-true, bf16-mixed or null" in capsys.readouterr().err
    assert main([*TRAIN, "compile=perhaps"]) == 2
    assert "compile must be true, false, step or null" in capsys.readouterr().err


def test_states_and_weights_stay_in_float32():
    torch.manual_seed(0)
    made = large()
    with torch.no_grad():
        for parameter in made.field.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    half = made.in_bfloat16()
    assert not made.field.in_bfloat16
    assert [*half.field.parameters()][0] is [*made.field.parameters()][0]
    seen = []
    made.field.network.blocks[0].register_forward_hook(  # pyright: ignore
        lambda module, inputs, output: seen.append(output.dtype)
    )
    single, low = (each.sample(4, decode=False) for each in (made, half))
    assert low.dtype == single.dtype == torch.float32
    assert seen == [torch.float32] * 2 + [torch.bfloat16] * 2
    error = float((low - single).norm() / single.norm())
    assert 1e-5 < error < 0.02
