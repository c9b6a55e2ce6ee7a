"""Steps that are not finite: skipped without a trace, counted, told, kept and replayed."""

import math
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger

from flowgen.core import InputError, Loss, TrainingFailedError
from flowgen.training.diagnosis import Layers, watched, weights_not_finite
from flowgen.training.failure import Diagnosis, diagnose
from flowgen.training.finite import FiniteGuard
from flowgen.training.pairing import paired_alone
from flowgen.training.time_bins import TimeBins
from runs import Rows, flow
from small import image_config, vector_config


class Poisoned(torch.nn.Module):
    """An objective that is as it was, but for the batches named."""

    def __init__(self, objective, module, batches, value=math.nan):
        super().__init__()
        self.inner, self.module, self.batches, self.value = objective, [module], batches, value

    def forward(self, model, pair, *, step=0, generator=None):
        loss = self.inner(model, pair, step=step, generator=generator)
        if self.module[0].batches_seen in self.batches:
            return Loss(loss.value * self.value, loss.pair, loss.t, loss.terms)
        return loss


def fit(module, folder, steps, images=False, **more):
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **({"logger": False, "log_every_n_steps": 1} | more),
    )
    trainer.fit(module, Rows(images))
    return trainer


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_step_leaves_no_trace_but_a_count(value, tmp_path, caplog):
    # Batches 0, 2 and 4 are taken; 1 and 3 are poisoned.
    module = flow(vector_config())
    module.objective = Poisoned(module.objective, module, {1, 3}, value)
    trainer = fit(module, tmp_path, 3)
    assert trainer.global_step == 3
    assert module.batches_seen == 5
    assert module.guard.skipped == 2
    assert "step 1 skipped" in caplog.text

    class EverySecond(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            pl_module.batches_seen += 1

    never_saw_them = flow(vector_config())
    fit(never_saw_them, tmp_path, 3, callbacks=[EverySecond()])
    for name, tensor in never_saw_them.state_dict().items():
        assert torch.equal(module.state_dict()[name], tensor)


def test_weights_stay_bit_equal_over_a_skipped_step(tmp_path):
    module = flow(image_config())
    module.objective = Poisoned(module.objective, module, {2, 3})
    states = {}
    original = module.guard.takes

    def takes(*args):
        taken = original(*args)
        states[module.batches_seen] = (taken, snapshot(module))
        return taken

    module.guard.takes = takes
    fit(module, tmp_path, 4, images=True)
    assert [taken for taken, _ in states.values()] == [True, True, False, False, True, True]
    before, after = states[2][1], states[4][1]
    for name, value in before.items():
        assert torch.equal(value, after[name]), name


def test_a_gradient_alone_is_enough(tmp_path):
    module = flow(vector_config())
    parameter = next(module.pipeline.field.parameters())
    parameter.register_hook(lambda grad: grad * (math.inf if module.batches_seen == 1 else 1))
    fit(module, tmp_path, 2)
    assert module.guard.skipped == 1


def test_an_infinite_loss_without_gradient_is_enough():
    guard = FiniteGuard(3)
    assert not guard.takes(torch.tensor(0.0), torch.tensor(math.inf))
    assert not guard.takes(torch.tensor(math.nan), torch.tensor(1.0))
    assert guard.takes(torch.tensor(1.0), torch.tensor(1.0))
    assert guard.state() == {"skipped": 2, "in_a_row": 0}
    other = FiniteGuard(3)
    other.load(guard.state())
    assert other.skipped == 2


def test_one_process_with_a_bad_step_holds_back_all():
    guard = FiniteGuard(3)
    assert not guard.takes(torch.tensor(1.0), torch.tensor(1.0), lambda total: total + math.inf)
    with pytest.raises(InputError, match="max_skipped"):
        FiniteGuard(0)


def test_the_run_stops_names_bin_and_layer_and_keeps_the_batch(tmp_path):
    module = flow(image_config(), max_skipped=3, nonfinite=tmp_path / "nonfinite")
    block = dict(module.pipeline.field.named_modules())["network.blocks.0.mlp"]
    layer = next(child for child in block.children() if hasattr(child, "weight"))
    layer.register_forward_hook(lambda m, a, out: out / 0 if module.batches_seen >= 1 else out)
    name = next(n for n, m in module.pipeline.field.named_modules() if m is layer)
    with pytest.raises(TrainingFailedError, match="3 steps in a row") as failure:
        fit(module, tmp_path, 10, images=True)
    message = str(failure.value)
    assert f"first in the output of layer {name};" in message
    assert "in the times" in message
    file = tmp_path / "nonfinite" / "step_0000001.pt"
    assert f"flowgen replay {file}" in message
    kept = torch.load(file, weights_only=True)
    assert kept["number"] == 3
    decoded = module.pipeline.codec.decode(kept["pair"]["x_1"])
    assert torch.equal(decoded, Rows(True).batch["x_1"])


def test_what_was_learnt_before_the_end_is_logged(tmp_path):
    logged = []
    module = flow(vector_config(), max_skipped=2)
    module.objective = Poisoned(module.objective, module, {3, 4})
    logger = CSVLogger(tmp_path)
    logger.log_metrics = lambda metrics, step: logged.append((step, metrics))
    with pytest.raises(TrainingFailedError):
        fit(module, tmp_path, 10, logger=logger, log_every_n_steps=100)
    [(step, metrics)] = logged
    assert step == 3
    assert metrics["skipped"] == 2
    assert math.isfinite(metrics["loss"])


def test_weights_that_are_not_finite_are_named(tmp_path):
    module = flow(vector_config(), max_skipped=1)
    with torch.no_grad():
        next(module.pipeline.field.network.parameters()).fill_(math.nan)
    names = weights_not_finite(module.pipeline.field)
    assert len(names) == 1
    with pytest.raises(TrainingFailedError, match=f"the weights of {names[0]} are not finite"):
        fit(module, tmp_path, 1)


class NoSlope(torch.autograd.Function):
    """The identity, whose gradient is lost."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * math.nan


class Lost(torch.nn.Module):
    def forward(self, x):
        return NoSlope.apply(x)


def test_a_branch_of_a_block_is_told_from_the_block_and_from_its_neighbours():
    """The input of a residual block has a bad gradient, and so has all that is before it."""

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.good, self.bad = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
            self.lost = Lost()

        def forward(self, x, *, scale):
            return torch.relu_(self.lost(self.bad(x)) + self.good(x) * scale + x)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.block, self.last = (
                torch.nn.Linear(2, 2),
                Block(),
                torch.nn.Linear(2, 2),
            )

        def forward(self, x):
            return self.last(self.block(self.first(x), scale=x))

    net = Net()
    with watched(net) as seen:
        torch.autograd.grad(net(torch.ones(3, 2)).sum(), list(net.parameters()))
    assert seen.forward is None
    assert seen.backward == "block.lost"
    assert seen.gradients["block.lost"] < math.inf == seen.gradients["block.bad"]
    assert seen.outputs["last"] > 0
    assert not net.first.weight._backward_hooks


def test_what_a_module_does_between_its_layers_is_its_own_fault():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.two(self.one(x) / 0)

    net = torch.nn.Sequential(torch.nn.Linear(2, 2), Net())
    with watched(net) as seen:
        net(torch.ones(1, 2))
    assert seen.forward == "1"


def paired(module, batch=None, images=False):
    return paired_alone(module, batch or Rows(images).batch, 0).pair


def ruled(module, batch=None):
    return diagnose(module, paired(module, batch), 0).line()


def test_data_loss_and_norm_are_told_from_the_layers(tmp_path):
    module = flow(vector_config())
    assert diagnose(module, paired(module), 0).finite
    x = Rows(False).batch["x_1"].clone()
    x[[2, 5], 1] = math.nan
    assert ruled(module, {"x_1": x}) == "the data are not finite in 2 rows of the batch (2, 5)"
    plain = module.objective
    module.objective = Poisoned(plain, module, {0})
    assert ruled(module).endswith("in the loss alone: the output of every layer is finite")
    assert ruled(module).startswith("in the times 0.")
    # Each gradient is a number, the sum of their squares is none.
    module.objective = Poisoned(plain, module, {0}, 1e25)
    assert ruled(module).startswith("in the norm of the gradient")


def test_neighbouring_times_are_told_as_one():
    found = Diagnosis(torch.zeros(10), [0, 1, 2, 9], [], Layers(), [], False)
    assert found.times == ["0.0-0.3", "0.9-1.0"]


def test_a_diagnosis_leaves_weights_gradients_and_hooks_as_they_were():
    module = flow(vector_config(), micro_batch=5)
    field = module.pipeline.field
    field(torch.ones(1, 2), torch.tensor([0.5])).sum().backward()
    gradients = [p.grad.clone() for p in field.parameters()]
    before = snapshot(module)
    diagnose(module, paired(module), 0)
    for one, parameter in zip(gradients, field.parameters(), strict=True):
        assert torch.equal(one, parameter.grad)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in field.modules())


def test_the_draws_of_a_diagnosis_repeat_it_whatever_the_seeds():
    """As on another device, where the same seeds mean other numbers."""
    config = image_config()
    config["field"]["network"]["dropout"] = 0.3
    module = flow(config, micro_batch=5)
    module.train()
    pair = paired(module, images=True)
    found = diagnose(module, pair, 0)
    module.seed, module.batches_seen = 7, 9
    assert diagnose(module, pair, 0).layers != found.layers
    again = diagnose(module, pair, 0, found.draws)
    assert torch.equal(again.loss.nan_to_num(), found.loss.nan_to_num())
    assert again.layers == found.layers
    assert all(torch.equal(a, b) for a, b in zip(again.draws, found.draws, strict=True))


def test_rows_of_a_skipped_step_stay_out_of_the_mean(tmp_path):
    module = flow(vector_config())

    class OneRow(Poisoned):
        def forward(self, model, pair, *, step=0, generator=None):
            loss = self.inner(model, pair, step=step, generator=generator)
            bad = self.module[0].batches_seen == 0
            value = torch.full_like(loss.value, 100.0)
            value[0] = math.nan
            return Loss(value + 0 * loss.value if bad else loss.value, pair, loss.t)

    module.objective = OneRow(module.objective, module, {})
    counts = []
    module._log = lambda: counts.append(float(module.step_log.bins.sums[1].sum()))
    fit(module, tmp_path, 1)
    assert module.guard.skipped == 1
    assert counts[0] == 12.0


def test_a_full_disk_does_not_hide_why_the_run_ended(tmp_path, monkeypatch):
    def full(content, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flowgen.training.failure.torch.save", full)
    module = flow(vector_config(), max_skipped=1, nonfinite=tmp_path / "nonfinite")
    module.objective = Poisoned(module.objective, module, {0})
    with pytest.raises(TrainingFailedError, match="in the loss alone.*cannot be kept .*No space"):
        fit(module, tmp_path, 1)
    assert list((tmp_path / "nonfinite").iterdir()) == []


def test_too_little_memory_to_look_closer_does_not_hide_why_the_run_ended(tmp_path, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    module = flow(vector_config(), max_skipped=1, nonfinite=tmp_path / "nonfinite")
    module.objective = Poisoned(module.objective, module, {0})
    monkeypatch.setattr("flowgen.training.failure.diagnose", full)
    with pytest.raises(TrainingFailedError, match="memory does not suffice .* flowgen replay"):
        fit(module, tmp_path, 1)


def test_layers_are_found_forward_and_backward():
    class Root(torch.nn.Module):
        def forward(self, x):
            return x.sqrt()

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), Root(), torch.nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.fill_(0.0)
        model[0].bias.fill_(0.0)
    with watched(model) as seen:
        model(torch.ones(1, 2)).sum().backward()
    assert seen.forward is None
    assert seen.backward == "1"  # the slope of a root at 0
    assert seen.outputs["0"] == 0.0
    with torch.no_grad():
        model[0].bias.fill_(-1.0)
    with watched(model) as seen:
        model(torch.ones(1, 2)).sum().backward()
    assert seen.forward == "1"
    assert not model[0]._forward_hooks


def test_bins_leave_out_rows_that_are_not_finite():
    bins = TimeBins(2, torch.device("cpu"))
    pair = flow(vector_config()).pair(Rows(False).batch, torch.Generator().manual_seed(0))
    value = torch.ones(12)
    value[0], value[1] = math.nan, math.inf
    bins.add(Loss(value, pair, torch.linspace(0, 0.4, 12)))
    assert bins.sums[:, 0].tolist() == [10.0, 10.0]
    assert bins.means()[0] == 1.0


def test_dropout_inside_the_network_follows_the_batch_and_not_the_global_state(tmp_path):
    def masks(seed_before):
        module = flow(vector_config())
        dropout = torch.nn.Dropout(0.5)
        drawn = []
        module.pipeline.field.network.register_forward_hook(
            lambda m, a, out: drawn.append(dropout(torch.ones(8)))
        )
        torch.manual_seed(seed_before)
        fit(module, tmp_path, 3)
        return drawn

    first, second = masks(0), masks(1)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])


def test_the_log_has_phases_and_throughput(tmp_path):
    module = flow(vector_config())
    trainer = Trainer(
        max_steps=4,
        max_epochs=-1,
        accelerator="cpu",
        logger=CSVLogger(tmp_path),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=2,
    )
    trainer.fit(module, Rows(False))
    text = next(Path(tmp_path).rglob("metrics.csv")).read_text().splitlines()
    row = dict(zip(text[0].split(","), text[-1].split(","), strict=True))
    for phase in ("data", "coupling", "forward", "backward", "optimizer"):
        assert float(row[f"ms/{phase}"]) >= 0
    assert float(row["ms/forward"]) > 0
    assert float(row["samples_per_second"]) > 0
    assert row["skipped"] == "0"
