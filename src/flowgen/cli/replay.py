"""``flowgen replay``: repeat the batch that ended a run and show where it broke."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from flowgen.cli.errors import UsageError

_SHOWN = 8
_ADVICE = """what usually helps, in this order:
  a smaller optimizer.lr, or a longer lr_schedule.warmup
  a smaller clip (the largest norm of the gradient)
  trainer.precision=32-true instead of bf16-mixed
  a time_eps further from the singular end, if one time bin alone is bad
"""


def help_text() -> str:
    """Return the text of ``flowgen replay --help``."""
    return """usage: flowgen replay FILE

A run that stops because its losses are not finite keeps the batch in nonfinite/step_<n>.pt of its
folder. This takes the batch through the model once more, on the CPU, with the same noise and times,
and shows the loss in each time bin, the first layer that is not finite and the largest values.

  flowgen replay my_run/nonfinite/step_0000120.pt
"""


def run(words: Sequence[str], config_dir: Path) -> int:
    """Replay the batch of a file.

    Args:
        words: The file.
        config_dir: Not used: the run's own config says what to build.

    Raises:
        UsageError: If there is not exactly one word.
        InputError: If the file is none that a run has kept, or its run is not there.
    """
    del config_dir
    if len(words) != 1:
        raise UsageError("replay takes one file: flowgen replay <run>/nonfinite/step_<n>.pt")
    file = Path(words[0]).expanduser()
    content = _read(file)
    module = _module(file, content)
    found = _diagnose(module, content)
    sys.stdout.write(_text(file, content, found, module.num_bins))
    return 0


def _read(file: Path) -> Mapping[str, Any]:
    import pickle

    import torch

    from flowgen.core import InputError

    if not file.is_file():
        raise InputError(f"no file at '{file}': give a file of the nonfinite folder of a run")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError):
        content = None
    if not isinstance(content, Mapping) or content.get("flowgen_replay") != 1:
        raise InputError(f"{file} is no batch kept by a run, or is damaged")
    return content


def _module(file: Path, content: Mapping[str, Any]) -> Any:
    from omegaconf import DictConfig, OmegaConf

    from flowgen.cli.assemble import module
    from flowgen.core import InputError

    config = file.resolve().parent.parent / "config.yaml"
    if not config.is_file():
        raise InputError(f"no config.yaml in {config.parent}: leave the file in its run folder")
    cfg = OmegaConf.load(config)
    assert isinstance(cfg, DictConfig)
    flow = module(cfg)
    try:
        flow.pipeline.field.load_state_dict(content["state_dict"], strict=True)
    except RuntimeError as error:
        raise InputError(f"{file} does not fit the config of its run") from error
    flow.batches_seen = int(content["number"])
    return flow


def _diagnose(module: Any, content: Mapping[str, Any]) -> Any:
    import torch

    from flowgen.training.failure import diagnose

    half = content["precision"] == "bf16-mixed"
    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        return diagnose(module.train(), content["batch"])


def _text(file: Path, content: Mapping[str, Any], found: Any, num_bins: int) -> str:
    lines = [
        f"{file}: batch {content['number']} at step {content['step']}, "
        f"{len(content['batch']['x_1'])} samples, precision {content['precision']}",
        "",
        "loss by time (0 is noise, 1 is data)",
    ]
    for i, value in enumerate(found.loss.tolist()):
        name = f"{i / num_bins:.1f}-{(i + 1) / num_bins:.1f}"
        bad = "   not finite in some rows" if name in found.bins else ""
        lines.append(f"  {name}  {value:.4g}{bad}")
    lines += ["", f"found: {'everything is finite here' if found.finite else found.line()}"]
    for title, values in (
        ("largest outputs by layer", found.layers.outputs),
        ("largest gradients by layer", found.layers.gradients),
    ):
        largest = sorted(values.items(), key=lambda item: -item[1])[:_SHOWN]
        lines += ["", title, *(f"  {value:<10.3g} {name}" for name, value in largest)]
    return "\n".join(lines) + "\n\n" + _ADVICE
