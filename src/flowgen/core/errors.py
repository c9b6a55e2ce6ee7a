"""The one exception that means: the caller gave something that cannot be used."""


class InputError(ValueError):
    """Bad input, told in one line: what was wrong, what was expected, what to do.

    The command line prints the message and exits with code 2, without a traceback.
    """
