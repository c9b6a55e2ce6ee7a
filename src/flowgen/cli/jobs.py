"""What a verb may ask about the job it runs in."""

from typing import Any


def job_number() -> int | None:
    """Return the number of this job inside a ``--multirun``, from 0, or None in a single run.

    Jobs of one sweep share the start time, so folders named by time need this number as well.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if hydra.mode is not RunMode.MULTIRUN or OmegaConf.is_missing(hydra.job, "num"):
        return None
    return int(hydra.job.num)


def words_of_job() -> list[str]:
    """Return the overrides of this job as they were written, references to nodes unresolved.

    Hydra must be running: a text such as ``a=${b}`` would else be read with the value of ``b`` in
    it, which is no override any more.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    words: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # pyright: ignore[reportArgumentType]
    return words
