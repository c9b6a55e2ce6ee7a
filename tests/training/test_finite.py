"""Steps that are not finite: skipped without a trace, counted, told, kept and replayed."""

import math
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer

from flowgen.core import InputError, Loss, TrainingFailedError
from flowgen.training.diagnosis import watched, weights_not_finite
from flowgen.training.finite import FiniteGuard
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
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        log_every_n_steps=1,
        **more,
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
    assert not guard.takes(torch.tensor(1.0), torch.tensor(1.0), lambda flag: flag + 1)
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
    # A hook that runs after ours hides the layer itself; what follows it shows the infinity.
    assert "first in the output of layer network.blocks.0.mlp" in message or name in message
    assert "in the times" in message
    file = tmp_path / "nonfinite" / "step_0000001.pt"
    assert f"flowgen replay {file}" in message
    kept = torch.load(file, weights_only=True)
    assert kept["number"] == 3
    assert torch.equal(kept["batch"]["x_1"], Rows(True).batch["x_1"])


def test_weights_that_are_not_finite_are_named(tmp_path):
    module = flow(vector_config(), max_skipped=1)
    with torch.no_grad():
        next(module.pipeline.field.network.parameters()).fill_(math.nan)
    names = weights_not_finite(module.pipeline.field)
    assert len(names) == 1
    with pytest.raises(TrainingFailedError, match=f"the weights of {names[0]} are not finite"):
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
    from lightning.pytorch.loggers import CSVLogger

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
