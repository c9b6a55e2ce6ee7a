"""Checkpoints on the Hugging Face hub: ``hf://<user or organisation>/<name>``.

Only the file of weights that ``flowgen export to=safetensors push_to_hub=`` writes is taken, and it
is read as any other file: nothing that it names from outside flowgen is built unasked.
"""

import re
from pathlib import Path

from flowgen.core import InputError
from flowgen.pipeline.checkpoint.problems import plain

FRONT = "hf://"
"""How the address of a repository of the hub begins."""

FILE = "model.safetensors"
"""The file that is read there."""

_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def downloaded(address: str) -> Path:
    """Return the file of a repository in the local cache of the hub, fetched if it is not there.

    Args:
        address: ``hf://<user or organisation>/<name>``, with ``@<revision>`` for a branch, a tag
            or a commit.

    Raises:
        InputError: If the address is malformed, there is no such file, or it cannot be fetched.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InputError(
            f"checkpoint '{plain(address, 200)}': an address of the hub is "
            "hf://<user or organisation>/<name>, with @<revision> at most"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import EntryNotFoundError, HfHubHTTPError

    # The base of the client's own errors: its library differs between versions.
    client: type[Exception] = HfHubHTTPError.__bases__[0]  # pyright: ignore[reportAssignmentType]
    try:
        return Path(hf_hub_download(found["repo"], FILE, revision=found["revision"]))
    except (client, EntryNotFoundError, OSError, ValueError) as error:
        code = getattr(getattr(error, "response", None), "status_code", None)
        why = f"the hub answers {code}" if code else "it cannot be fetched"
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{address}: no {FILE}: {why}: {plain(told, 200)}") from error
