"""Training runs whose pairs are all that matters: the loss draws nothing."""

import math

import torch
from lightning.pytorch import Trainer

from flowgen.core import Loss, mean_over_dims
from flowgen.couplings import ExactAssignment
from flowgen.data import EightGaussians, PointData, stream
from flowgen.training import PairLoader
from runs import flow
from small import vector_config


class Halfway(torch.nn.Module):
    """Regress the displacement at time one half."""

    def forward(self, model, pair, *, step=0, generator=None):
        t = torch.full((len(pair),), 0.5)
        x_t = 0.5 * (pair.x_0 + pair.x_1)
        error = model(x_t, t, pair.cond) - (pair.x_1 - pair.x_0)
        return Loss(mean_over_dims(error**2), pair, t)


class Lazy:
    """Pairs whose loader is made by each process, which knows its rank only then."""

    def __init__(self, module, batch_size, **settings):
        self.module, self.batch_size, self.settings = module, batch_size, settings

    def __iter__(self):
        trainer = self.module.trainer
        data = PointData(EightGaussians(), num_train=100, num_test=10)
        rows = stream(
            data.train,
            batch_size=self.batch_size,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        return iter(PairLoader(self.module, rows, batches=2, **self.settings))


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.pipeline.field.parameters()])


def learnt(folder, batch_size, all_processes=False, **trainer):
    module = flow(
        vector_config(),
        coupling=ExactAssignment(),
        clip=math.inf,
        optimizer=lambda p: torch.optim.SGD(p, lr=1e-2),
    )
    module.objective = Halfway()
    Trainer(
        accelerator="cpu",
        logger=False,
        max_steps=5,
        max_epochs=-1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=folder,
        **trainer,
    ).fit(module, Lazy(module, batch_size, all_processes=all_processes))
    return weights(module)
