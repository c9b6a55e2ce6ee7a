"""Where the config tree lies: inside the installed wheel, or at the root of a checkout."""

from pathlib import Path

from flowgen.cli.errors import UsageError

_PACKAGE = Path(__file__).resolve().parents[1]


def config_dir(package: Path = _PACKAGE) -> Path:
    """Return the absolute path of the config tree; the working directory plays no part.

    Args:
        package: Folder of the imported package ``flowgen``.

    Raises:
        UsageError: If there is no tree in either place.
    """
    installed, checkout = package / "configs", package.parents[1] / "configs"
    for candidate in (installed, checkout):
        if candidate.is_dir():
            return candidate
    raise UsageError(f"no config tree at {installed} or {checkout}: reinstall flowgen")
