"""Where files of this user are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return where files are kept that can be made again: ``$FLOWGEN_CACHE``, else ``~/.cache/flowgen``."""
    return Path(os.environ.get("FLOWGEN_CACHE") or Path.home() / ".cache" / "flowgen")
