"""Compose a config without running anything: for checks and for ``flowgen config show``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flowgen.cli.config_tree import ConfigTree

if TYPE_CHECKING:
    from omegaconf import DictConfig


@contextmanager
def composed(
    tree: ConfigTree, config_name: str, overrides: Sequence[str]
) -> "Iterator[DictConfig]":
    """Give the composed config; inside the context its ``${hydra:...}`` values resolve as well.

    Args:
        tree: Where to look; the first folder is the main one.
        config_name: The primary config.
        overrides: Hydra overrides, without sweeps.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    *extra, main = tree.folders
    search = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in extra)}]"]
    before = HydraConfig.instance().cfg
    with initialize_config_dir(str(main), job_name=config_name, version_base="1.3"):
        try:
            config = compose(
                config_name, [*(search if extra else []), *overrides], return_hydra_config=True
            )
            HydraConfig.instance().set_config(config)
            with open_dict(config):
                del config["hydra"]
            yield config
        finally:
            HydraConfig.instance().cfg = before
