"""Weights & Biases through Lightning's logger: online where it answers, else offline.

One run folder is one run there: its id is kept in ``wandb/run_id``, so a resumed run goes on in the
same place. Numbers stand over the axis ``trainer/global_step``, not over the client's own counter,
which only grows: after a resume from an earlier checkpoint the steps since it are sent again, with
the same values. Files go to ``<run>/wandb``, online as well; ``wandb sync`` uploads what is left.
"""

import http.client
import os
import secrets
import string
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger

from flowgen.core import InputError
from flowgen.training.loggers.show import Table
from flowgen.training.loggers.wandb_client import end_client, kill_client
from flowgen.training.loggers.worker import one_line, tell

MODES = ("auto", "online", "offline", "disabled")
"""Ways of using Weights & Biases; ``auto`` is online where a key is set and it answers."""

OTHER_WORDS = {"dryrun": "offline", "run": "online"}
"""Older values of ``WANDB_MODE``."""

ANSWER_SECONDS = 5.0
"""Longest wait for the first answer of the service."""

INIT_SECONDS = 10.0
"""Longest wait of the client for the service when a run starts."""

SENT_AGAIN = 1000
"""Rows kept to be sent again where the client's process dies."""

STEP = "trainer/global_step"
"""The axis of every curve, Lightning's name for it."""


class WandbService:
    """A run of Weights & Biases in a run folder.

    Args:
        folder: The run folder.
        project: Project of the run.
        entity: User or team; None is the default of the key.
        name: Display name; None takes the run folder's.
        group: Runs to show together, or None.
        job_type: What this process does.
        tags: Tags of the run.
        mode: ``auto``, ``online``, ``offline`` or ``disabled``; ``auto`` heeds ``WANDB_MODE``.
        finish_seconds: Longest wait of the client for the upload at the end.

    Raises:
        InputError: If ``mode`` is not one of :data:`MODES`, or the client is not installed.
    """

    title = "Weights & Biases"

    def __init__(
        self,
        folder: Path,
        *,
        project: str,
        entity: str | None,
        name: str | None,
        group: str | None,
        job_type: str | None,
        tags: Sequence[str],
        mode: str,
        finish_seconds: float,
    ) -> None:
        if mode not in MODES:
            raise InputError(f"mode must be one of {', '.join(MODES)}, got '{mode}'")
        asked = os.environ.get("WANDB_MODE", mode) if mode == "auto" else mode
        self.mode = OTHER_WORDS.get(asked, asked)
        if self.mode not in MODES:
            raise InputError(f"WANDB_MODE must be one of {', '.join(MODES)}, got '{asked}'")
        # The client's reports about itself hold up the exit of the interpreter for half a minute
        # where the network is dead; who sets the variable decides.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError as error:
            raise InputError(f"needs wandb ({one_line(error)}): pip install wandb") from error
        self.folder = folder
        self._client = wandb
        self._finish_seconds = finish_seconds
        self._about = {
            "project": project,
            "entity": entity,
            "name": name or folder.name,
            "group": group,
            "job_type": job_type,
            "tags": list(tags),
        }
        self._inner: WandbLogger | None = None
        self._config: Mapping[str, Any] = {}
        self._lately: deque[tuple[Mapping[str, float], int]] = deque(maxlen=SENT_AGAIN)

    def open(self) -> None:
        """Start the run, or go on with it; a run that has been rescued is open already."""
        if self._inner is not None:
            return
        (self.folder / "wandb").mkdir(parents=True, exist_ok=True)
        if self.mode in ("auto", "online"):
            reason = why_not_online()
            self.mode = "online" if reason is None else "offline"
            self._start()
            tell(f"{self.title}: {self._run.url}") if reason is None else self._tell_offline(reason)
            return
        self._start()
        if self.mode == "offline":
            self._tell_offline("as asked")

    def config(self, config: Mapping[str, Any]) -> None:
        """Log the config."""
        self._config = config
        self._logger.log_hyperparams(dict(config))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers."""
        self._logger.log_metrics(values, step=step)
        self._lately.append((values, step))

    def picture(self, name: str, path: Path, step: int) -> None:
        """Log the picture in a file; a file that has gone is no fault of the service."""
        if path.is_file():
            self._logger.log_image(name, [str(path)], step=step, caption=[f"step {step}"])

    def table(self, name: str, rows: Table, step: int) -> None:
        """Log a table."""
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        data: list[Any] = [[row, *map(values.get, columns)] for row, values in rows.items()]
        table = self._client.Table(columns=["", *columns], data=data, allow_mixed_types=True)
        self._run.log({name: table, STEP: step})

    def resume(self, step: int) -> None:
        """Keep what is there: curves stand over the step, and repeated steps have equal values."""
        del step

    def close(self, status: str) -> None:
        """End the run; what is not uploaded in time is on disk."""
        try:
            self._run.finish(exit_code=0 if status == "success" else 1)
        except TimeoutError:
            tell(f"{self.title}: the upload is not complete; to complete it: {self._sync}")
        self._inner = None
        end_client()

    def rescue(self, reason: str) -> bool:
        """Go on offline in the same run, with a new process of the client.

        What the old one held in memory is gone, so the last numbers are sent again.
        """
        if self.mode == "disabled":
            return False
        self.cut()
        self.mode = "offline"
        self._start()
        self._logger.log_hyperparams(dict(self._config))
        for values, step in self._lately:
            self._logger.log_metrics(values, step=step)
        self._tell_offline(reason)
        return True

    def cut(self) -> None:
        """Stop the client's process, so that whoever waits for it gets an error."""
        self._inner = None
        kill_client()

    @property
    def _logger(self) -> WandbLogger:
        if self._inner is None:
            raise RuntimeError("there is no run")
        return self._inner

    @property
    def _run(self) -> Any:
        return self._logger.experiment

    @property
    def _sync(self) -> str:
        return f"wandb sync {self.folder / 'wandb'}/*run-*"

    def _start(self) -> None:
        offered = self._client.Settings.model_fields
        self._client.setup(self._client.Settings(silent=True))
        wanted = {
            "init_timeout": INIT_SECONDS,
            "finish_timeout": self._finish_seconds,
            "finish_timeout_raises": True,
            "silent": True,  # what a user needs is in our own lines
            "console": "off",  # the bar is no log
        }
        if any(self.folder.glob(f"wandb/*run-{time.strftime('%Y%m%d_%H%M%S')}-*")):
            time.sleep(1.0)  # folders of sessions are told apart by the second
        run = self._client.init(
            **self._about,
            mode=self.mode,  # pyright: ignore[reportArgumentType]
            dir=str(self.folder),
            id=self._id(),
            resume="allow",
            reinit="create_new",
            settings=self._client.Settings(**{k: v for k, v in wanted.items() if k in offered}),
        )
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        self._inner = WandbLogger(experiment=run, project=self._about["project"])

    def _id(self) -> str:
        file = self.folder / "wandb" / "run_id"
        if not file.is_file():
            letters = string.ascii_lowercase + string.digits
            file.write_text("".join(secrets.choice(letters) for _ in range(8)) + "\n")
        return file.read_text().strip()

    def _tell_offline(self, reason: str) -> None:
        tell(f"{self.title} is offline ({reason}); to upload: {self._sync}")


def why_not_online() -> str | None:
    """Return why Weights & Biases cannot be used online, None if it has a key and answers."""
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    if not _has_key(urlsplit(url).hostname or ""):
        return "no key is set"
    try:
        urllib.request.urlopen(url, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return None  # an answer all the same
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{url} does not answer: {one_line(getattr(error, 'reason', error))}"
    return None


def _has_key(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and host in netrc.read_text(errors="ignore")
