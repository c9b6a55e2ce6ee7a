"""Downloads that either leave the right file or no file at all."""

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from flowgen.core import InputError

_CHUNK = 1 << 20


def download(url: str, path: Path, *, sha256: str, timeout: float = 30.0) -> Path:
    """Fetch ``url`` to ``path`` and return ``path``; the file appears only when it is verified.

    Args:
        url: Where to fetch from.
        path: Where the file goes; its folder is made if need be.
        sha256: The digest the content must have, hexadecimal.
        timeout: Seconds without an answer or a byte after which to give up.

    Raises:
        InputError: In one line, if there is no network, the transfer breaks off, the content is not
            the expected one, or ``path`` cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InputError(f"cannot write to {path.parent}: {error.strerror}") from None
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = _copy(url, file, timeout)
        if digest != sha256:
            raise InputError(
                f"{url} has SHA-256 {digest}, expected {sha256}: nothing was kept, try again later"
            )
        partial.chmod(0o644)
        partial.replace(path)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"cannot download {url} ({reason}): is there a network?") from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def _copy(url: str, file, timeout: float) -> str:
    """Write the content of ``url`` to ``file`` and return its SHA-256."""
    from tqdm import tqdm

    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=timeout) as response:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        received = 0
        with tqdm(total=total, unit="B", unit_scale=True, desc=url, disable=None) as progress:
            while chunk := response.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
                received += len(chunk)
                progress.update(len(chunk))
    if total is not None and received != total:
        raise OSError(f"{received} of {total} bytes arrived")
    return digest.hexdigest()
