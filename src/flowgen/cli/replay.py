"""``flowgen replay``: repeat the batch that ended a run and show where it broke."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowgen.cli.errors import UsageError

_SHOWN = 8


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
    cfg = _config(file)
    found = _diagnosis(file, cfg, content, content["precision"])
    lines = _text(file, content, found)
    half = content["precision"] == "bf16-mixed"
    cured = half and not found.finite and _diagnosis(file, cfg, content, "32-true").finite
    if half and not found.finite:
        lines += ["", f"in 32-true the same batch is {'finite' if cured else 'not finite either'}"]
    lines += ["", *_advice(cfg, found, cured)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _read(file: Path) -> Mapping[str, Any]:
    import pickle

    import torch

    from flowgen.core import InputError
    from flowgen.training.failure import FORMAT

    if not file.is_file():
        raise InputError(f"no file at '{file}': give a file of the nonfinite folder of a run")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError):
        content = None
    if not isinstance(content, Mapping) or content.get("flowgen_replay") != FORMAT:
        raise InputError(f"{file} is no batch kept by a run, or is damaged")
    return content


def _config(file: Path) -> Any:
    from omegaconf import DictConfig, OmegaConf

    from flowgen.core import InputError

    path = file.resolve().parent.parent / "config.yaml"
    if not path.is_file():
        raise InputError(f"no config.yaml in {path.parent}: leave the file in its run folder")
    cfg = OmegaConf.load(path)
    assert isinstance(cfg, DictConfig)
    return cfg


def _diagnosis(file: Path, cfg: Any, content: Mapping[str, Any], precision: str) -> Any:
    """Return what is found when the batch is repeated in a precision."""
    from flowgen.cli.assemble import module
    from flowgen.core import InputError, Pair
    from flowgen.training.failure import diagnose

    flow = module(cfg)
    if precision == "64-true":
        flow.double()
    try:
        flow.pipeline.field.load_state_dict(content["state_dict"], strict=True)
    except RuntimeError as error:
        raise InputError(f"{file} does not fit the config of its run") from error
    flow.batches_seen = int(content["number"])
    # Where the memory did not suffice to keep the draws they are made anew.
    draws = content["draws"] or None
    with _arithmetic(precision):
        kept = content["pair"]
        pair = Pair(kept["x_0"], kept["x_1"], content["cond"] or None, kept.get("weight"))
        return diagnose(flow.train(), pair, int(content["step"]), draws)


@contextmanager
def _arithmetic(precision: str) -> Iterator[None]:
    """Compute as a run in this precision does."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if precision == "64-true" else before)
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            yield
    finally:
        torch.set_default_dtype(before)


def _text(file: Path, content: Mapping[str, Any], found: Any) -> list[str]:
    lines = [
        f"{file}: batch {content['number']} at step {content['step']}, "
        f"{len(content['pair']['x_1'])} samples, precision {content['precision']}, "
        f"trained on {content['device']}, repeated on cpu",
        "",
        "loss by time (0 is noise, 1 is data)",
    ]
    count = len(found.loss)
    for i, value in enumerate(found.loss.tolist()):
        if value == value:
            shown = f"{value:<8.4g}" + ("   not finite in some rows" if i in found.bins else "")
        else:
            shown = "not finite in any row" if i in found.bins else "no rows"
        lines.append(f"  {i / count:.1f}-{(i + 1) / count:.1f}  {shown.rstrip()}")
    lines += ["", f"found: {'everything is finite here' if found.finite else found.line()}"]
    for title, values in (
        ("largest outputs by layer", found.layers.outputs),
        ("largest gradients by layer", found.layers.gradients),
    ):
        largest = sorted(values.items(), key=lambda item: -item[1])[:_SHOWN]
        lines += ["", title, *(f"  {value:<10.3g} {name or '(all)'}" for name, value in largest)]
    return lines


def _advice(cfg: Any, found: Any, cured: bool) -> list[str]:
    """Return what to try, most promising first."""
    if found.rows:
        return ["try: take these samples out of the data; the run itself is sound"]
    if found.finite:
        return [
            "try: trainer.precision=32-true, for only the arithmetic of the device is different"
        ]
    tips = []
    if cured:
        tips.append("trainer.precision=32-true instead of bf16-mixed")
    if len(found.times) == 1 and set(found.bins) <= {0, len(found.loss) - 1}:
        tips.append(f"a larger time_eps ({cfg.time_eps}): one end of the times alone is bad")
    tips.append(
        f"a smaller optimizer.lr ({cfg.optimizer.get('lr', 'the default')}), or a longer "
        "lr_schedule.warmup"
    )
    tips.append(f"a smaller clip ({cfg.clip}), the largest norm of the gradient")
    if found.weights:
        tips.append("start again from an earlier checkpoint: checkpoint=<run>/checkpoints/<file>")
    return ["try, in this order:", *(f"  {tip}" for tip in tips)]
