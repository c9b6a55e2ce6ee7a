"""``flowgen fit-pairs``: entropic transport of many thousands of rows, written as pairs."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from flowgen.cli.console import say

if TYPE_CHECKING:
    from torch import Tensor

    from flowgen.couplings import StoredPairs


def run(cfg: DictConfig) -> Path:
    """Make the rounds that ``cfg`` asks for, from where the file ends, and return the file.

    Args:
        cfg: The composed config of ``configs/fit_pairs.yaml``.

    Raises:
        InputError: If a number is out of range, data and source do not fit, or the file there was
            made with other settings.
        TrainingFailedError: If a plan did not converge within the sweeps.
    """
    import torch

    from flowgen.cli.assemble import data_set, make
    from flowgen.cli.fit_coupling import check_shapes, training_set
    from flowgen.core import InputError, TrainingFailedError
    from flowgen.couplings import PairRounds, Sinkhorn, StoredPairs
    from flowgen.couplings.stored_pairs import noise_block
    from flowgen.data import DataSource
    from flowgen.pipeline import atomic

    if cfg.rounds < 1:
        raise InputError(f"rounds must be >= 1, got {cfg.rounds}")
    data = data_set(cfg.data)
    out = Path(cfg.out).expanduser() if cfg.out else Path(f"pairs_{data.name}.safetensors")
    if out.suffix != ".safetensors":
        raise InputError(f"out={out}: pairs are written as .safetensors")
    if cfg.by_label and data.num_classes is None:
        raise InputError(f"by_label=true needs labels, and {data.name} has none")
    by_label = data.num_classes is not None if cfg.by_label is None else bool(cfg.by_label)
    cfg.facts.shape = list(data.codec.encoded_shape(data.shape))
    x_1, label, digest = training_set(data, cfg.device)
    source = make(cfg.source, "source")
    check_shapes(source, x_1)
    own = source.codec if isinstance(source, DataSource) else None
    if own is not None and own.to_config() != data.codec.to_config():
        raise InputError(
            "source and data are normalised each in its own way, and pairs of a file need one: use "
            "a coupling of batches, such as coupling=exact_assignment"
        )
    solver = Sinkhorn(cfg.tolerance, cfg.max_sweeps)
    rounds = PairRounds(
        x_1,
        label if by_label else None,
        source,
        cfg.rows,
        cfg.epsilon,
        cfg.seed,
        solver,
        cfg.max_elements,
    )
    nothing = torch.empty(0, cfg.rows, dtype=torch.int32)
    first = noise_block(source, cfg.seed, 0, 0)[0].flatten().float()
    pairs = StoredPairs(nothing, cfg.seed, cfg.epsilon, by_label, digest, data.name, first)
    if out.exists():
        pairs = _goes_on(out, pairs)
    for number in range(len(pairs.index), cfg.rounds):
        made = rounds(number)
        if not made.converged:
            raise TrainingFailedError(
                f"round {number + 1} has a marginal error of {made.error:.2g} after max_sweeps="
                f"{cfg.max_sweeps}: it is not written; raise max_sweeps, epsilon or tolerance"
            )
        pairs = _with(pairs, made.index)
        with atomic(out) as temporary:
            pairs.save(temporary)
        say(
            f"round {number + 1} of {cfg.rounds}: {cfg.rows} noises, {made.sweeps} sweeps, "
            f"marginal error {made.error:.1e}, entropy {made.entropy:.3f}, pairs "
            f"{1 - made.cost / made.random:.1%} nearer than random ones"
        )
    found, rows = pairs.index.shape
    say(
        f"written: {out} ({found} x {rows} pairs)\nnext: flowgen train data={data.name} "
        f"coupling=stored coupling.file={out}"
    )
    return out


def _with(pairs: "StoredPairs", index: "Tensor") -> "StoredPairs":
    from dataclasses import replace

    import torch

    return replace(pairs, index=torch.cat([pairs.index, index[None].int()]))


def _goes_on(out: Path, asked: "StoredPairs") -> "StoredPairs":
    """Return the pairs of a file that was begun with the same settings."""
    import torch

    from flowgen.core import InputError
    from flowgen.couplings import StoredPairs

    # A copy, as the file that it is mapped from will be replaced.
    found = StoredPairs.load(out)
    same = all(
        getattr(found, name) == getattr(asked, name)
        for name in ("seed", "epsilon", "by_label", "digest")
    )
    same &= found.index.shape[1] == asked.index.shape[1] and torch.equal(found.first, asked.first)
    if not same:
        raise InputError(
            f"{out} was made with another data set, source, seed, epsilon, rows or by_label: "
            "choose another out=, or delete it"
        )
    say(f"{out} has {len(found.index)} rounds: going on from there")
    return _copied(found)


def _copied(pairs: "StoredPairs") -> "StoredPairs":
    from dataclasses import replace

    return replace(pairs, index=pairs.index.clone(), first=pairs.first.clone())
