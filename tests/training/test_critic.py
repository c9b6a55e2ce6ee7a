"""A critic learns in turns with the student, outside what Lightning counts."""

import csv
import logging
import os
import signal

import pytest
import torch
from lightning.pytorch import Callback

from critic_runs import ADAM, Follower, followed, followed_in_two, matching, module, train
from flowgen.core import InputError, TrainingFailedError, generator_for
from flowgen.distill import Critic, DistributionMatching, Part, Together
from flowgen.pipeline import load
from flowgen.pipeline.checkpoint import read_training_checkpoint
from flowgen.training import StopRequested
from flowgen.training.loggers import MetricsFile
from small import image_config, vector_config
from two_processes import in_fresh_process

STEPS = 5


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def last(folder):
    return read_training_checkpoint(folder / "checkpoints" / "last.ckpt")


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            if key != "python":  # beartype draws from python's own generator
                assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def critic_of(state):
    return {name: value for name, value in state.items() if ".critic." in name}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    train(folder, matching(), steps=STEPS)
    return folder


@pytest.mark.parametrize("stop", [1, 3])
def test_a_stopped_run_ends_like_one_that_was_not(stop, whole, tmp_path):
    torch.manual_seed(0)
    with pytest.raises(StopRequested):
        train(tmp_path, matching(), StopAt(stop), steps=STEPS)
    torch.manual_seed(77)
    train(tmp_path, matching(), steps=STEPS, content=last(tmp_path))
    for part in ("state_dict", "optimizer_states", "global_step", "training"):
        assert_same(last(whole)[part], last(tmp_path)[part])


@pytest.mark.parametrize("lost", ["optimizer", "weights"])
def test_without_its_state_a_run_ends_elsewhere(lost, whole, tmp_path):
    """The comparison above sees optimiser and weights of the critic."""
    torch.manual_seed(0)
    with pytest.raises(StopRequested):
        train(tmp_path, matching(), StopAt(3), steps=STEPS)
    content = last(tmp_path)
    if lost == "optimizer":
        content["training"]["parts"]["critic"]["optimizer"]["state"] = {}
    else:
        content["state_dict"] |= critic_of(matching().state_dict())
    train(tmp_path, matching(), steps=STEPS, content=content)
    with pytest.raises(AssertionError):
        assert_same(last(whole)["state_dict"], last(tmp_path)["state_dict"])


def test_its_steps_are_none_of_the_run(whole):
    content = last(whole)
    assert content["global_step"] == STEPS
    [student] = content["optimizer_states"]
    assert {int(entry["step"]) for entry in student["state"].values()} == {STEPS}
    critic = content["training"]["parts"]["critic"]["optimizer"]
    assert {int(entry["step"]) for entry in critic["state"].values()} == {3 * STEPS}
    made = matching()
    assert len(student["param_groups"][0]["params"]) == len(list(made.pipeline.field.parameters()))
    before, after = critic_of(made.state_dict()), critic_of(content["state_dict"])
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert any(".head." in name for name in moved)
    assert any("embeddings.node" in name for name in moved)
    assert any(".field.network.blocks" in name for name in moved)


def test_the_student_is_loaded_without_it(whole):
    pipeline = load(whole, device="cpu")
    assert pipeline.sample(2, label=1).isfinite().all()


def test_the_log_tells_of_it(tmp_path):
    made = matching()

    class Logged(Callback):
        def setup(self, trainer, pl_module, stage):
            trainer.loggers = [MetricsFile(tmp_path)]

    train(tmp_path, made, Logged(), steps=2)
    with (tmp_path / "metrics.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    for name in ("loss/critic", "loss/critic_velocity", "loss/critic_contest", "grad_norm/critic"):
        assert float(row[name]) > 0
    assert float(row["ms/critic"]) > 0
    assert float(row["loss/gradient"]) > 0


def test_nothing_is_left_on_its_parameters(tmp_path):
    made = train(tmp_path, matching(), steps=1)
    for parameter in made.objective.critic.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad


def test_half_precision_trains(tmp_path):
    made = train(tmp_path, matching(), steps=2, precision="bf16-mixed")
    for value in made.state_dict().values():
        assert value.isfinite().all()


class Infinite(Follower):
    """Breaks the student's loss at some of its steps."""

    def __init__(self, at):
        super().__init__()
        self.at = at
        self.seen = 0

    def forward(self, model, pair, *, step=0, generator=None):
        loss = super().forward(model, pair, step=step, generator=generator)
        self.seen += 1
        return type(loss)(
            loss.value * (float("nan") if self.seen in self.at else 1.0), pair, loss.t
        )


def points(objective, **changes):
    return module(objective, vector_config(), **changes)


def taken(made, tmp_path, batches):
    """Train on points, one step for each good batch."""
    from lightning.pytorch import Trainer
    from torch.utils.data import DataLoader

    from runs import Rows

    rows = Rows(images=False)
    Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_steps=batches,
        default_root_dir=tmp_path,
    ).fit(made, DataLoader(rows, batch_size=None))
    return made


def test_a_batch_that_the_student_skips_it_skips_too(tmp_path):
    made = taken(points(Infinite({2})), tmp_path, 2)
    assert made.guard.skipped == 1
    assert made.batches_seen == 3
    assert made.objective.calls == 2 * 2


def test_a_step_of_its_own_that_is_not_finite_is_skipped_and_told(tmp_path, caplog):
    made = points(Follower(broken={1}))
    with caplog.at_level(logging.WARNING):
        taken(made, tmp_path, 2)
    assert made.critic.guard.skipped == 1
    assert made.guard.skipped == 0
    assert "step of the critic skipped at step 0" in caplog.text
    assert all(p.isfinite().all() for p in made.objective.critic.parameters())


def test_too_many_of_them_end_the_run(tmp_path):
    made = points(Follower(broken=set(range(99))), max_skipped=3)
    with pytest.raises(TrainingFailedError, match=r"3 steps of the critic in a row .* at step 1"):
        taken(made, tmp_path, 9)


def test_it_sees_other_noise_than_the_student_and_at_each_step(tmp_path):
    states = []

    class Spy(Follower):
        def critic_loss(self, model, pair, *, step=0, generator=None):
            states.append(torch.rand(4, generator=generator))
            return super().critic_loss(model, pair, step=step)

        def forward(self, model, pair, *, step=0, generator=None):
            states.append(torch.rand(4, generator=generator))
            return super().forward(model, pair, step=step)

    made = taken(points(Spy()), tmp_path, 2)
    assert len({tuple(state.tolist()) for state in states}) == len(states) == 2 * 3
    first = torch.rand(4, generator=generator_for(made.seed, 0, 0, 2))
    assert torch.equal(states[1], first)


def test_micro_batches_change_nothing(tmp_path):
    whole, parts = (followed(tmp_path, vector_config(), size) for size in (None, 3))
    for name, value in whole.items():
        torch.testing.assert_close(value, parts[name], rtol=0, atol=1e-6)


def test_two_processes_equal_one(tmp_path):
    """A step of the critic that is broken on one of them is skipped by both."""
    alone = followed(tmp_path, vector_config()), followed(tmp_path, vector_config(), None, {1})
    start = points(Follower()).state_dict()
    assert any(not torch.equal(alone[0][name], start[name]) for name in critic_of(alone[0]))
    assert any(not torch.equal(alone[0][name], alone[1][name]) for name in critic_of(alone[0]))
    together = in_fresh_process(followed_in_two, tmp_path, vector_config())
    for one, other in zip(alone, together, strict=True):
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=0, atol=1e-6)


def test_a_part_may_have_it_but_not_two(tmp_path):
    one = Together({"a": Part(Follower())})
    assert points(one).critic is not None
    with pytest.raises(InputError, match="2 have one"):
        points(Together({"a": Part(Follower()), "b": Part(Follower())}))


def test_the_rehearsal_sees_its_loss():
    teacher = matching().objective.teacher.field
    wrong = Critic(matching().objective.teacher)
    objective = DistributionMatching(teacher.path, teacher, wrong, critic_optimizer=ADAM)
    made = module(objective, image_config(num_classes=None))
    with pytest.raises(InputError):
        made.rehearse({"x_1": torch.zeros(4, 1, 4, 4, dtype=torch.uint8)})
