"""Networks for tests, with nothing hidden behind layers that start at zero."""

from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONFIGS = Path(__file__).parents[1] / "configs" / "model"


def perturbed(network, scale=0.2):
    """Move every parameter of a network at random, the same each time."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return network


def configured(name, shape, num_classes=None, text_width=None, **changes):
    """Build the network of a file in ``configs/model`` for data of these facts."""
    facts = {"shape": shape, "num_classes": num_classes, "text_width": text_width}
    model = OmegaConf.load(CONFIGS / f"{name}.yaml")
    whole = OmegaConf.merge({"facts": facts, "model": model}, {"model": changes})
    return instantiate(whole.model)
