"""Small whole pipelines for tests: built from plain configs, as a checkpoint builds them."""

from typing import Any

import torch

from flowgen.pipeline import Pipeline, build


def vector_config() -> dict[str, Any]:
    """An unconditional MLP on the plane."""
    return {
        "_target_": "flowgen.pipeline.Pipeline",
        "field": {
            "_target_": "flowgen.models.PredictionField",
            "network": {"_target_": "flowgen.models.MLP", "shape": [2], "width": 16, "depth": 2},
            "path": {
                "_target_": "flowgen.paths.AffinePath",
                "schedule": {"_target_": "flowgen.paths.Linear"},
            },
            "prediction": {"_target_": "flowgen.paths.Velocity"},
        },
        "source": {"_target_": "flowgen.data.Gaussian", "shape": [2]},
        "sampler": {
            "_target_": "flowgen.integrators.Sampler",
            "stepper": {"_target_": "flowgen.integrators.Heun"},
            "grid": {"_target_": "flowgen.integrators.Uniform"},
            "num_steps": 4,
        },
        "codec": {"_target_": "flowgen.data.Standardize", "mean": [1.0, -2.0], "std": 3.0},
    }


def image_config(num_classes: int | None = 3) -> dict[str, Any]:
    """A small DiT on 4x4 grey images, with labels unless ``num_classes`` is None."""
    config = vector_config()
    config["field"]["network"] = {
        "_target_": "flowgen.models.DiT",
        "shape": [1, 4, 4],
        "num_classes": num_classes,
        "patch": 2,
        "width": 16,
        "depth": 1,
        "heads": 2,
    }
    config["source"] = {"_target_": "flowgen.data.Gaussian", "shape": [1, 4, 4]}
    config["codec"] = {"_target_": "flowgen.data.Pixels"}
    if num_classes is not None:
        config["conditioner"] = {
            "_target_": "flowgen.models.LabelConditioner",
            "num_classes": num_classes,
            "dropout": 0.5,
            "names": ["ant", "bee", "cow"][:num_classes],
        }
    return config


def built(config: dict[str, Any], *, seed: int = 0) -> Pipeline:
    """Return the pipeline of a config with reproducible weights that are not at zero output."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pipeline = build(config)
        with torch.no_grad():
            for parameter in pipeline.field.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    pipeline.config = config
    return pipeline
