"""The training step: the road of one batch, micro-batches, repeatability, the logged numbers."""

import math

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from flowgen.core import InputError, Loss, Pair, mean_over_dims
from flowgen.couplings import ClassAssignment, ExactAssignment, Independent
from runs import Rows, flow
from small import image_config, vector_config


def fit(module, images, tmp_path, steps=4, batch=12, every=2):
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=CSVLogger(tmp_path, name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=every,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(Rows(images, batch), batch_size=None))
    return trainer


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.pipeline.field.parameters()])


def test_same_seed_same_weights_and_another_seed_others(tmp_path):
    results = []
    for seed in (0, 0, 1):
        module = flow(image_config(), seed=seed)
        fit(module, True, tmp_path)
        results.append(weights(module))
    assert torch.equal(results[0], results[1])
    assert not torch.allclose(results[0], results[2])


def test_micro_batches_take_the_same_step_as_the_whole_batch(tmp_path):
    """With a loss that does not draw anything, the gradients must agree to rounding."""

    class Deterministic(torch.nn.Module):
        def forward(self, model, pair, *, step=0, generator=None):
            t = torch.linspace(0.1, 0.9, 12)[: len(pair)] * 0 + 0.5
            x_t = 0.5 * (pair.x_0 + pair.x_1)
            value = mean_over_dims((model(x_t, t, pair.cond) - (pair.x_1 - pair.x_0)) ** 2)
            return Loss(value, pair, t)

    results = []
    for micro in (None, 12, 5, 1):
        module = flow(
            vector_config(),
            micro_batch=micro,
            clip=math.inf,
            # Larger steps diverge here, and rounding with them.
            optimizer=lambda p: torch.optim.SGD(p, lr=1e-3),
        )
        module.objective = Deterministic()
        fit(module, False, tmp_path, steps=2)
        results.append(weights(module))
    for other in results[1:]:
        assert torch.allclose(results[0], other, atol=1e-6)


def test_four_times_32_is_128_with_labels_dropout_of_labels_and_random_times(tmp_path):
    results = []
    for micro in (None, 32):
        module = flow(
            image_config(), micro_batch=micro, optimizer=lambda p: torch.optim.SGD(p, lr=1e-3)
        )
        fit(module, True, tmp_path, steps=3, batch=128)
        results.append(weights(module))
    start = weights(flow(image_config()))
    assert (results[0] - start).abs().max() > 1e-4
    assert torch.allclose(results[0], results[1], rtol=0, atol=1e-6)


def test_coupling_sees_the_whole_batch_and_the_model_only_micro_batches(tmp_path):
    seen = []

    class Spy(Independent):
        def __call__(self, pair, *, generator=None):
            seen.append(len(pair))
            return super().__call__(pair, generator=generator)

    module = flow(vector_config(), coupling=Spy(), micro_batch=4)
    sizes = []
    module.pipeline.field.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    fit(module, False, tmp_path, steps=1)
    assert seen == [12]
    assert sizes == [4, 4, 4]


def test_pair_weights_reach_the_gradient(tmp_path):
    """Weight zero on every pair must leave the weights where they are."""

    class Zero(Independent):
        def __call__(self, pair, *, generator=None):
            return Pair(pair.x_0, pair.x_1, pair.cond, torch.zeros(len(pair)))

    module = flow(vector_config(), coupling=Zero(), micro_batch=5)
    before = weights(module).clone()
    fit(module, False, tmp_path, steps=2)
    assert torch.equal(before, weights(module))


def test_stored_sources_are_used(tmp_path):
    module = flow(vector_config())
    x_0 = torch.full((3, 2), 7.0)
    pair = module.pair({"x_1": torch.zeros(3, 2), "x_0": x_0}, torch.Generator())
    assert torch.equal(pair.x_0, x_0)
    # The codec is applied to data: (0 - mean) / std.
    assert torch.allclose(pair.x_1[0], torch.tensor([-1.0 / 3.0, 2.0 / 3.0]))


def test_clipping_bounds_the_step(tmp_path):
    module = flow(vector_config(), clip=1e-3)
    before = weights(module).clone()
    fit(module, False, tmp_path, steps=1)
    # lr_schedule starts at the full rate 0.1, so the step is at most lr * clip long.
    assert (weights(module) - before).norm() <= 0.1 * 1e-3 * 1.01


def test_metrics_csv_holds_loss_bins_rate_and_norm(tmp_path):
    module = flow(image_config())
    fit(module, True, tmp_path, steps=4)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    header = lines[0].split(",")
    assert {"loss", "lr", "grad_norm", "step", "loss/t0.0", "loss/t0.9"} <= set(header)
    rows = [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(float(row["loss"]) > 0 for row in rows)


def test_a_run_shorter_than_the_interval_is_logged_too(tmp_path):
    fit(flow(vector_config()), False, tmp_path, steps=3, every=50)
    header, row = (tmp_path / "metrics.csv").read_text().splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["step"] == "3"


def test_logged_loss_is_the_mean_of_the_bins(tmp_path):
    module = flow(vector_config())
    module.step_log.num_bins = 1
    fit(module, False, tmp_path, steps=2)
    header, row = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    values = dict(zip(header, row, strict=True))
    assert float(values["loss"]) == pytest.approx(float(values["loss/t0.0"]))


def test_dropped_labels_become_null_at_the_rate_of_the_conditioner(tmp_path):
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, model, pair, *, step=0, generator=None):
            seen.append(pair.cond["label"].clone())
            value = mean_over_dims(model(pair.x_1, torch.full((len(pair),), 0.5), pair.cond) ** 2)
            return Loss(value, pair, torch.full((len(pair),), 0.5))

    module = flow(image_config())
    module.objective = Spy()
    fit(module, True, tmp_path, steps=40, batch=60)
    labels = torch.cat(seen)
    # 2400 draws at rate 0.5: standard error 0.01.
    assert abs(float((labels == 3).float().mean()) - 0.5) < 0.05
    assert not torch.equal(seen[0], seen[1])


def test_plain_transport_with_labels_is_refused_with_the_reason(tmp_path):
    with pytest.raises(InputError, match="makes the noise depend on the label"):
        flow(image_config(), coupling=ExactAssignment())
    flow(image_config(), coupling=ClassAssignment())
    flow(image_config(None), coupling=ExactAssignment())


def test_numbers_are_checked():
    with pytest.raises(InputError, match="clip"):
        flow(vector_config(), clip=0.0)
    with pytest.raises(InputError, match="micro_batch"):
        flow(vector_config(), micro_batch=0)


def test_transport_statistics_are_logged(tmp_path):
    module = flow(vector_config(), coupling=ExactAssignment())
    fit(module, False, tmp_path, steps=2)
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"coupling/cost", "coupling/saved", "coupling/optimality", "coupling/ms"} <= set(header)


def test_averaged_pipeline_shares_nothing_with_the_trained_one(tmp_path):
    module = flow(vector_config())
    fit(module, False, tmp_path)
    averaged = torch.cat([p.flatten() for p in module.averaged().field.parameters()])
    assert not torch.allclose(averaged, weights(module))
    assert module.averaged().sampler is module.pipeline.sampler
