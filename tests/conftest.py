"""Shared fixtures: two cores, value checks on, no network services."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from flowgen.core import debug_checks

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _value_checks():
    with debug_checks():
        yield


@pytest.fixture(autouse=True)
def _every_cpu_is_alike(monkeypatch):
    """No test may depend on whether this CPU is fast in bfloat16."""
    monkeypatch.setattr("flowgen.core.bfloat16.seconds_ratio", lambda one, other: 1.0)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def pytest_collection_modifyitems(items):
    # The longest first, so that no process is left alone with them at the end.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        # Tracing makes them half as long again, and what they reach others reach as well.
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")
    if torch.cuda.is_available():
        return
    for item in items:
        # The keywords of an item will not do: a parameter called "gpu" is one of them.
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
