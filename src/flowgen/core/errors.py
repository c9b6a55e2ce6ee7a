"""Exceptions that are told in one line: what the caller gave, or what training ran into."""


class InputError(ValueError):
    """Bad input, told in one line: what was wrong, what was expected, what to do.

    The command line prints the message and exits with code 2, without a traceback.
    """


class TrainingFailedError(RuntimeError):
    """Training cannot go on, told in one line: what happened, where, and what to do.

    The command line prints the message and exits with code 3, without a traceback.
    """
