"""Where files of this user are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return where what can be made again is kept: ``$FLOWGEN_CACHE``, or ``~/.cache/flowgen``."""
    return Path(os.environ.get("FLOWGEN_CACHE") or Path.home() / ".cache" / "flowgen")
