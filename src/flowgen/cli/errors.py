"""One place that turns what went wrong into an exit code and a line.

0 done, 1 a fault of flowgen (traceback), 2 bad input (one line), 3 training failed (one line), 130
interrupted, 141 the reader of the output went away. Libraries are looked up among the modules
already loaded: what was never imported cannot have raised.
"""

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator

_BAD_INPUT = 2
_TRAINING_FAILED = 3
_INTERRUPTED = 130
_BROKEN_PIPE = 141


class UsageError(ValueError):
    """A command line that cannot be used; the message is one line that says what to write."""


def exit_code(action: Callable[[], int]) -> int:
    """Return what ``action`` returns, or the exit code of what it raised, told on stderr."""
    try:
        code = action()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        # Python flushes stdout again at exit and would complain a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except SystemExit as error:
        # Lightning turns an interrupt into SystemExit(1) after its own shutdown.
        if isinstance(error.__context__, KeyboardInterrupt):
            return _interrupted()
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception as error:  # noqa: BLE001 - the outermost frame: nothing is swallowed
        return _failed(error)
    return code


def _interrupted() -> int:
    sys.stderr.write("interrupted\n")
    return _INTERRUPTED


def _failed(error: Exception) -> int:
    if isinstance(error, _loaded("flowgen.core.errors", "TrainingFailedError")):
        sys.stderr.write(f"training failed: {_one_line(str(error))}\n")
        return _TRAINING_FAILED
    message = message_for(error)
    if message is None:
        traceback.print_exception(type(error), error, error.__traceback__)
        return 1
    sys.stderr.write(f"error: {message}\n")
    return _BAD_INPUT


def message_for(error: BaseException) -> str | None:
    """Return the one line for an error of the user's, None for a fault of the program."""
    if isinstance(error, (UsageError, *_loaded("flowgen.core.errors", "InputError"))):
        return _one_line(str(error))
    if isinstance(error, _loaded("hydra.errors", "InstantiationException")):
        return _instantiation(error)
    if isinstance(error, _loaded("hydra.errors", "HydraException")):
        return _composition(error)
    # A missing key asked for by code, not by a config, is a fault of the code.
    if isinstance(error, _loaded("omegaconf.errors", "ConfigAttributeError", "ConfigKeyError")):
        return None
    if isinstance(error, _loaded("omegaconf.errors", "OmegaConfBaseException")):
        return _omegaconf(error)
    if isinstance(error, _loaded("torch.distributed", "DistNetworkError")):
        found = _one_line(str(error))
        return f"the processes cannot meet: {found} Set MASTER_PORT to a free port and start again"
    if isinstance(error, _loaded("submitit.core.utils", "UncompletedJobError", "FailedJobError")):
        told = _one_line(" ".join(str(error).splitlines()[:2]))
        return f"a job of the sweep ended without a result: {told}"
    return None


def _loaded(module: str, *names: str) -> tuple[type[BaseException], ...]:
    loaded = sys.modules.get(module)
    return tuple(getattr(loaded, name) for name in names) if loaded else ()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen = {id(error)}  # causes may form a circle, as those of Hydra's parser do
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _instantiation(error: BaseException) -> str | None:
    text, _, key = str(error).partition("\nfull_key: ")
    where = f"{key.strip()}: " if key else ""
    causes = list(_chain(error))
    told = [c for c in causes if isinstance(c, _loaded("flowgen.core.errors", "InputError"))]
    told += [c for c in causes if isinstance(c, (ValueError, TypeError))]
    if text.startswith("Error locating target"):
        target = re.search(r"'([^']*)'", text)
        reason = f" ({_one_line(str(causes[0]))})" if causes else ""
        return f"{where}cannot find {target.group(1) if target else 'the target'}{reason}"
    if told:
        return where + _one_line(str(told[0]))
    return None if causes else where + _one_line(text)


def _composition(error: BaseException) -> str:
    text = str(error)
    for cause in _chain(error):
        if str(cause) and str(cause) not in text:
            text += f": {cause}"
            break
    text = re.sub(r"\s*(full_key|object_type|reference_type)[:=].*", "", text)
    text = re.sub(r"\s*Config search path:.*", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*See https?://\S+.*", "", text)
    return _one_line(text)


def _omegaconf(error: BaseException) -> str:
    key = getattr(error, "full_key", None)
    text = _one_line(str(error).partition("\n    full_key")[0])
    return f"{key}: {text}" if key and key not in text else text
