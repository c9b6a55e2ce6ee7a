"""Run a verb with Hydra: its flags, its composition, its sweeps, but none of its folders.

Hydra by itself writes ``outputs/``, ``.hydra/`` and log files before a job starts; here a run
folder appears only when the verb has built everything, so Hydra is told to stay in place. What a
job raises leaves Hydra untouched, wrapped in an exception that Hydra does not catch. A launcher may
run the jobs of a sweep in other processes, on other machines: it needs a folder that all of them
see, and hands back what a job has raised.
"""

import importlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flowgen.cli.errors import UsageError
from flowgen.cli.flags import Flags, parse_flags
from flowgen.cli.jobs import job_number, words_of_job
from flowgen.cli.overrides import OverrideCheck
from flowgen.cli.verbs import Verb

if TYPE_CHECKING:
    from omegaconf import DictConfig

_STAY_IN_PLACE = {
    "hydra.run.dir": ".",
    "hydra.output_subdir": "null",
    "hydra/job_logging": "none",
    "hydra/hydra_logging": "none",
}


class _JobFailedError(BaseException):
    """Carries a job's exception through Hydra, which reports subclasses of Exception itself."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def run_verb(verb: Verb, words: Sequence[str], folder: Path) -> int:
    """Check the command line of a verb, then run it once, or once for each job of a sweep.

    Args:
        verb: What to run.
        words: Everything after the verb.
        folder: The config folder.

    Returns:
        The exit code of success; failures are raised.
    """
    line = parse_flags(words, verb.config_name, folder)
    if line.tree.file(line.config_name) is None:
        raise UsageError(f"no config '{line.config_name}.yaml' in {line.tree.folders[-1]}")
    jobs = 1
    if line.checked:
        check = OverrideCheck(line.tree, line.config_name, line.multirun, line.runs, verb.filled_in)
        jobs = check(line.overrides)
    _run_hydra(verb, line, words, jobs)
    return 0


def _run_hydra(verb: Verb, line: Flags, words: Sequence[str], jobs: int) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    ours, here = list(sys.argv), os.getpid()
    before = HydraConfig.instance().cfg

    def task(config: "DictConfig") -> None:
        try:
            with _argv(_job_argv(ours, verb, words, line)):
                _announce(jobs)
                importlib.import_module(verb.module).run(config)
        except Exception as error:
            if os.getpid() != here:
                raise
            raise _JobFailedError(error) from error

    main = hydra.main(
        config_path=str(line.tree.folders[-1]), config_name=line.config_name, version_base="1.3"
    )
    with TemporaryDirectory(prefix="flowgen-sweep-") as scratch, _full_errors():
        launcher = _launcher(line.overrides)
        sweep = scratch if launcher is None else time.strftime("multirun/%Y-%m-%d_%H-%M-%S")
        settings = {**_STAY_IN_PLACE, "hydra.job.name": verb.name, "hydra.sweep.dir": sweep}
        if launcher is not None and line.multirun and line.runs:
            sys.stdout.write(f"{jobs} jobs go to {launcher}; what they print: {sweep}/.submitit\n")
            sys.stdout.flush()
        given = {text.partition("=")[0] for text in line.overrides}
        stay = [f"{key}={value}" for key, value in settings.items() if key not in given]
        with _argv([f"flowgen {verb.name}", *stay, *line.overrides, *line.flags]):
            try:
                main(task)()
            except _JobFailedError as failed:
                raise failed.error from failed.error.__cause__
            finally:
                # Hydra leaves it behind after --cfg and --info.
                HydraConfig.instance().cfg = before


def _launcher(overrides: Sequence[str]) -> str | None:
    """Return the launcher that is asked for in place of Hydra's own."""
    asked = [text.partition("=")[2] for text in overrides if text.startswith("hydra/launcher=")]
    return asked[-1] if asked and asked[-1] != "basic" else None


def _job_argv(ours: list[str], verb: Verb, words: Sequence[str], line: Flags) -> list[str]:
    """Return the command line that repeats the present job alone, as DDP's launcher will do."""
    if job_number() is None:
        return ours
    front = ours[: len(ours) - len(words)] if ours[-len(words) :] == [*words] else [ours[0]]
    if front == ours[:1] and not ours[0].endswith(f"{verb.config_name}.py"):
        front.append(verb.name)
    flags = [word for word in line.flags if word not in ("-m", "--multirun")]
    return [*front, *flags, *words_of_job()]


def _announce(jobs: int) -> None:
    number = job_number()
    if number is not None:
        what = " ".join(words_of_job())
        sys.stdout.write(f"--- job {number + 1} of {jobs}: {what}\n")
        sys.stdout.flush()


@contextmanager
def _argv(words: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _full_errors() -> Iterator[None]:
    """Make Hydra raise instead of printing and exiting."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before
