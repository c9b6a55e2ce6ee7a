"""Every choice of every group builds a part that trains: finite loss, finite gradient."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from flowgen.core import Pair

CONFIGS = Path(__file__).parents[2] / "configs"
DEFAULTS = {
    "path": "linear",
    "loss_space": "velocity",
    "time_sampler": "uniform",
    "weighting": "constant",
    "distance": "squared",
    "coupling": "independent",
    "objective": "flow_matching",
}
CHOICES = [
    (group, file.stem)
    for group in ("time_sampler", "weighting", "distance", "coupling", "objective")
    for file in sorted((CONFIGS / group).glob("*.yaml"))
    # These need a file fitted to the data (test_fit_coupling.py, test_fit_pairs.py), pairs of a
    # teacher (test_make_pairs.py), or a path with noise and two networks (test_flow_and_score.py).
    if file.stem not in ("semidiscrete", "stored", "made_pairs", "flow_and_score")
]


def node(group, choice):
    return CONFIGS / ("prediction" if group == "loss_space" else group) / f"{choice}.yaml"


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=[f"{g}={c}" for g, c in CHOICES])
@pytest.mark.parametrize("loss_space", ["velocity", "noise"])
def test_choice_trains(group, choice, loss_space, generator):
    chosen = {**DEFAULTS, "loss_space": loss_space, group: choice}
    cfg = OmegaConf.create({g: OmegaConf.load(node(g, c)) for g, c in chosen.items()})
    objective, coupling = instantiate(cfg.objective), instantiate(cfg.coupling)
    x = torch.randn(2, 128, 2, generator=generator)
    labelled = choice in ("class_assignment", "condition_assignment")
    cond = {"label": torch.arange(128) % 2} if labelled else None
    net = torch.nn.Linear(2, 2)
    loss = objective(
        lambda x, t, cond=None: net(x) * t[:, None],
        coupling(Pair(x[0], x[1], cond), generator=generator),
        generator=generator,
    ).total()
    loss.backward()
    assert bool(loss.isfinite())
    assert net.weight.grad is not None
    assert bool(net.weight.grad.isfinite().all())
