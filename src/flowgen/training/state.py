"""Everything a run needs to go on as if it had never stopped, as plain containers and tensors.

Beside what Lightning collects (weights, averaged weights, optimiser, learning-rate schedule,
callbacks): the number of batches seen, from which order, augmentation, noise and times follow; the
sums of the log since its last row; the global random generators of every process; the state of
coupling (as it was after the pairs of the last step), of the objective and of the parts of the
pipeline that have one.

Lightning's own restoring is not used: it reads the file again, unchecked, and counts epochs and
batches, of which an endless stream has none. Only its number of steps is set.
"""

import random
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from flowgen.core import InputError, Prepared
from flowgen.data import Batches
from flowgen.pipeline.checkpoint import clean_names
from flowgen.training.module import FlowModule
from flowgen.training.processes import Processes
from flowgen.training.sharding import shares

STATE = "training"
"""Where the state stands in a training checkpoint."""

_SCALARS = (type(None), bool, int, float, str, Tensor, nn.Parameter)
_MAPPINGS = (dict, OrderedDict, Counter)
_PATH = "path."
_LEARNING = ("objective", "critic")
_PARTS = ("source", "sampler", "codec", "conditioner")


def capture(trainer: Trainer, processes: Processes) -> dict[str, Any]:
    """Return the content of a checkpoint; every process must call it.

    Weights that lie in shards are whole, on the first process; the others have None there.

    Raises:
        InputError: If a part keeps a state that is no plain value and could not be read again.
    """
    module = _module(trainer)
    # What the trainer saves itself under the same name, without the file.
    content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    content[STATE] = {
        "parts": {name: part.state_dict() for name, part in _stateful(module).items()},
        "processes": processes.gather(_own(module)),
        **_data(trainer),
    }
    _check_plain(content, "")
    return content


def restore(content: Mapping[str, Any], trainer: Trainer, batches: Batches) -> None:
    """Put trainer, module and data where they were when ``content`` was captured.

    Args:
        content: Of a checkpoint, the same on every process.
        trainer: With its optimisers set up, before its first step.
        batches: The endless stream that training will read.

    Raises:
        InputError: If the checkpoint holds weights only, or does not fit this run.
    """
    module = _module(trainer)
    state = content.get(STATE)
    if not isinstance(state, Mapping):
        raise InputError(
            "the checkpoint has no state to go on from: start from its weights by checkpoint=<file>"
        )
    size = state.get("samples", batches.order.size)
    if size != batches.order.size:
        raise InputError(
            f"the training set has {batches.order.size} samples and had {size}: the run cannot go "
            "on with other data"
        )
    _load_weights(module, content["state_dict"])
    trainer.strategy.load_optimizer_state_dict(content)
    for config, saved in zip(trainer.lr_scheduler_configs, content["lr_schedulers"], strict=True):
        config.scheduler.load_state_dict(saved)
        _follow(config.scheduler)
    plugin = trainer.precision_plugin
    if type(plugin).__qualname__ in content:
        plugin.load_state_dict(content[type(plugin).__qualname__])
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        saved = content["callbacks"].get(callback.state_key)
        if saved:
            callback.load_state_dict(saved)
    for name, part in _stateful(module).items():
        if name in state["parts"]:
            part.load_state_dict(state["parts"][name])
    _set_steps(trainer, content["global_step"])
    _restore_own(module, state["processes"], trainer.world_size, trainer.global_rank)
    batches.start = module.batches_seen


def start_from(module: FlowModule, raw: Mapping[str, Tensor], ema: Mapping[str, Tensor]) -> None:
    """Take weights and averaged weights of another run, by their names in the field.

    What a path has of its own (a table) is no weight: this run's stays, whatever the other's was.

    Raises:
        InputError: If they do not fit.
    """
    for field, state in ((module.pipeline.field, raw), (module.ema.field, ema)):
        own = {name: value for name, value in field.state_dict().items() if name.startswith(_PATH)}
        weights = {name: value for name, value in state.items() if not name.startswith(_PATH)}
        _load_weights(field, weights | own)
    if isinstance(module.objective, Prepared):
        module.objective.begin(module.pipeline.field)


def _module(trainer: Trainer) -> FlowModule:
    module = trainer.lightning_module
    assert isinstance(module, FlowModule)
    return module


def _load_weights(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    # A network that is compiled or wrapped has longer names than the file.
    present = module.state_dict()
    own = clean_names({name: name for name in present})
    renamed = {own.get(name, name): value for name, value in state.items()}
    try:
        module.load_state_dict(shares(renamed, present))
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise InputError(f"the checkpoint's weights do not fit this run: {detail}") from error


def _stateful(module: FlowModule) -> dict[str, Any]:
    """Parts with a state of their own; those that are modules are in the ``state_dict`` already."""
    found = {name: getattr(module, name, None) for name in _LEARNING}
    found |= {name: getattr(module.pipeline, name, None) for name in _PARTS}
    return {
        name: part
        for name, part in found.items()
        if not isinstance(part, nn.Module)
        and hasattr(part, "state_dict")
        and hasattr(part, "load_state_dict")
    }


def _data(trainer: Trainer) -> dict[str, int]:
    batches = getattr(trainer.train_dataloader, "batch_sampler", None)
    return {"samples": batches.order.size} if isinstance(batches, Batches) else {}


def _own(module: FlowModule) -> dict[str, Any]:
    """Return the state of this process."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    own: dict[str, Any] = {
        "module": module.training_state(),
        "python": [version, torch.tensor(words), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
    }
    if module.device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(module.device)
    return own


def _restore_own(module: FlowModule, saved: list[Any], count: int, rank: int) -> None:
    own = saved[min(rank, len(saved) - 1)]
    state = dict(own["module"])
    if len(saved) != count and state["bins"] is not None:
        # Another number of processes: the sums are added up over all, so one may hold them.
        total = torch.stack([entry["module"]["bins"].cpu() for entry in saved]).sum(dim=0)
        state["bins"] = total if rank == 0 else torch.zeros_like(total)
    module.load_training_state(state)
    if rank >= len(saved):
        return
    version, words, gauss = own["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, *rest = own["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(own["torch"].cpu())
    if "cuda" in own and module.device.type == "cuda":
        torch.cuda.set_rng_state(own["cuda"].cpu(), module.device)


def _follow(schedule: Any) -> None:
    """Set the rate of the next step, which another length of the run may have changed."""
    if isinstance(schedule, LambdaLR):
        rates = [
            base * factor(schedule.last_epoch)
            for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates


def _set_steps(trainer: Trainer, step: int) -> None:
    loop = trainer.fit_loop.epoch_loop
    total = loop.manual_optimization.optim_step_progress.total
    total.ready = total.completed = step
    loop._batches_that_stepped = step


def _check_plain(value: Any, where: str) -> None:
    """Raise if ``value`` holds anything but plain values: nothing else is ever read again."""
    if type(value) in _MAPPINGS:
        for key, item in value.items():
            if type(key) not in (str, int):
                raise InputError(f"checkpoint: {where} has a key of type {type(key).__name__}")
            _check_plain(item, f"{where}.{key}" if where else str(key))
    elif type(value) in (list, tuple, set):
        for item in value:
            _check_plain(item, where)
    elif type(value) not in _SCALARS:
        raise InputError(
            f"checkpoint: {where} is a {type(value).__module__}.{type(value).__qualname__}, and a "
            "state may hold numbers, strings, lists, dicts and tensors only"
        )
