"""The one exception that dkp raises for bad input."""


class InputError(ValueError):
    """A user's file, key or option is not usable.

    The message is one sentence that names the file or key, what was found and what was expected. The command
    line prints it after ``dkp: error:`` and exits with status 2; nothing that existed before is changed.
    """
