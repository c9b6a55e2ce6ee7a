"""``flowgen make-pairs``: write where a model's flow takes the source, to train on."""

from pathlib import Path
from typing import NoReturn

from omegaconf import DictConfig, OmegaConf

from flowgen.cli.console import say


def run(cfg: DictConfig) -> Path:
    """Make the pairs that ``cfg`` asks for, from where the folder ends, and return the folder.

    Args:
        cfg: The composed config of ``configs/make_pairs.yaml``.

    Raises:
        InputError: If the teacher, a label or a number cannot be used, or the folder was made with
            other settings.
    """
    from tqdm import tqdm

    from flowgen.cli.assemble import make
    from flowgen.cli.compiling import compile_network
    from flowgen.cli.restore import home
    from flowgen.pipeline import load, make_pairs

    teacher = load(
        cfg.teacher, weights=cfg.teacher_weights, device=cfg.device, trust_code=cfg.trust_code
    )
    teacher = teacher.with_sampler(make(cfg.sampler, "sampler"))
    teacher = teacher.guided(make(cfg.guidance, "guidance"))
    if cfg.compile:
        compile_network(teacher.field.network)
    out = Path(cfg.out).expanduser() if cfg.out else home(cfg.teacher) / "pairs"
    settings = {
        name: OmegaConf.to_container(cfg[name], resolve=True) for name in ("sampler", "guidance")
    }
    bar: tqdm[NoReturn] | None = None

    def told(done: int) -> None:
        nonlocal bar
        # Not before all is checked; and what was there before is no work of this command.
        bar = bar or tqdm(total=cfg.num_pairs, initial=done, desc="making pairs", unit="pair")
        bar.update(done - bar.n)

    try:
        made = make_pairs(
            teacher,
            out,
            cfg.num_pairs,
            shard_size=cfg.shard_size,
            label=list(cfg.label) if OmegaConf.is_list(cfg.label) else cfg.label,
            seed=cfg.seed,
            chunk=cfg.chunk,
            settings=settings,
            told=told,
        )
    finally:
        if bar is not None:
            bar.close()
    say(
        f"written: {out} ({len(made)} pairs in {len(made.counts)} files)\nnext: flowgen distill "
        f"teacher={cfg.teacher} distill=reflow coupling=made_pairs coupling.folder={out}"
    )
    return out
