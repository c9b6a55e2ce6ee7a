"""Small runs of a student beside a critic."""

import functools
import math

import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.utils.data import DataLoader

from ddp_runs import Fixed, Halfway, Share
from flowgen.core import Loss, mean_over_dims
from flowgen.couplings import Independent
from flowgen.data import ArraySplit, stream
from flowgen.distill import Adversary, Critic, DensityRatio, DistributionMatching
from flowgen.training import Checkpoints, FlowModule, Interruption, Resume, warmup_constant
from small import built, image_config

ADAM = functools.partial(torch.optim.Adam, lr=1e-2)


def student_config():
    """A small DiT on 4x4 images with labels, that leads to the data at once."""
    config = image_config()
    config["field"]["_target_"] = "flowgen.models.SegmentField"
    config["sampler"] |= {"stepper": {"_target_": "flowgen.integrators.Renoise"}, "num_steps": 1}
    return config


def matching(**settings):
    """A module with all that distribution matching can have, and dropout in the student."""
    teacher = built(image_config()).field
    adversary = Adversary(weight=0.1, smoothness=1.0)
    objective = DistributionMatching(
        teacher.path,
        teacher,
        Critic(teacher, layer="out", nodes=2),
        nodes=(0.0, 0.5),
        adversary=adversary,
        density_ratio=DensityRatio(),
        critic_optimizer=ADAM,
        critic_steps=3,
    )
    made = module(objective, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2), micro_batch=5)
    network = made.pipeline.field.network
    network.register_forward_hook(lambda _, __, out: nn.functional.dropout(out, 0.1))
    return made


def module(objective, config=None, **changes):
    """A module of the objective, with plain gradient descent unless told otherwise."""
    settings = {
        "optimizer": lambda p: torch.optim.SGD(p, lr=1e-2),
        "lr_schedule": warmup_constant,
        "ema_decay": 0.9,
    }
    pipeline = built(student_config() if config is None else config)
    return FlowModule(pipeline, objective, Independent(), **(settings | changes))


def train(folder, made, *callbacks, steps=6, content=None, **trainer):
    """Train on a few images, from a checkpoint's content where one is given."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (50, 1, 4, 4), generator=generator, dtype=torch.uint8)
    batches = stream(ArraySplit(x, torch.arange(50) % 3), batch_size=12, seed=3, num_workers=0)
    Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=[
            Interruption(),
            *([] if content is None else [Resume(content, batches.batch_sampler)]),
            *callbacks,
            Checkpoints(folder, every_n_steps=100),
        ],
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        default_root_dir=folder,
        **trainer,
    ).fit(made, batches)
    return made


class Follower(Halfway):
    """Flow matching beside a critic that learns the student's velocity; nothing is drawn.

    Args:
        broken: Numbers of the critic's steps whose loss is infinite, on the second of two
            processes or on one alone.
        steps: Steps of the critic for each of the student.
    """

    def __init__(self, broken=(), steps=2):
        super().__init__()
        self.critic = nn.Linear(2, 2).requires_grad_(False)
        with torch.no_grad():
            self.critic.weight.copy_(torch.eye(2))
            self.critic.bias.zero_()
        self.critic_optimizer = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.5)
        self.critic_steps = steps
        self.broken = broken
        self.calls = 0

    def critic_loss(self, model, pair, *, step=0, generator=None):
        t = torch.full((len(pair),), 0.5)
        with torch.no_grad():
            target = model(pair.x_1, t, pair.cond)
        value = mean_over_dims((self.critic(pair.x_1) - target).square())
        world = torch.distributed
        alone = not world.is_initialized() or world.get_rank() == 1
        bad = alone and self.calls in self.broken
        self.calls += 1
        return Loss(value + (math.inf if bad else 0.0), pair, t, {"square": value})


class Alike(Callback):
    """Checks that all processes have one critic."""

    def on_train_end(self, trainer, pl_module):
        own = torch.cat([p.flatten() for p in pl_module.objective.critic.parameters()])
        found = trainer.strategy.all_gather(own)
        assert torch.equal(found[0], found[-1])
        state = pl_module.critic.optimizer.state_dict()["state"]
        assert len(state) == 2


def followed(folder, config, micro_batch=None, broken=(), **trainer):
    """Return the weights of student and critic after three steps on points."""
    config = dict(config)
    made = module(Follower(broken), config, micro_batch=micro_batch, clip=math.inf)
    made._coupling = (Fixed(),)
    Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        max_steps=3,
        callbacks=[Alike()] if "devices" in trainer else [],
        default_root_dir=folder,
        **trainer,
    ).fit(made, DataLoader(Share(), batch_size=None))
    return {name: value.clone() for name, value in made.state_dict().items()}


def followed_in_two(folder, config):
    """Return what two processes learn, with all steps of the critic and with one that is broken."""
    two = {"strategy": "ddp_fork", "devices": 2}
    return followed(folder, config, 3, **two), followed(folder, config, None, {1}, **two)
