"""The command line ``flowgen``: compose a config, check it, build objects, run a verb.

Start-up rule: nothing in this package imports Hydra, torch or Lightning when it is imported itself,
so that help and spelling mistakes are answered at once.
"""

from flowgen.cli.config_dir import config_dir
from flowgen.cli.errors import UsageError
from flowgen.cli.jobs import job_number
from flowgen.cli.main import main

__all__ = ["UsageError", "config_dir", "job_number", "main"]
