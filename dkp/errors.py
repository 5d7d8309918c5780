"""The one exception that dkp raises for bad input, and the check of a group of settings."""

from collections.abc import Mapping


class InputError(ValueError):
    """A user's file, key or option is not usable.

    The message is one sentence that names the file or key, what was found and what was expected. The command
    line prints it after ``dkp: error:`` and exits with status 2; nothing that existed before is changed. Characters of
    a file that cannot be printed are in it by their codes.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__("".join(one if one.isprintable() else repr(one)[1:-1] for one in message))


def check_settings(group: str, settings: object, checks: Mapping[str, tuple[bool, str]]) -> None:
    """Refuse settings that make no sense.

    Args:
        group: the options' common name.
        settings: has an attribute for each key of `checks`.
        checks: key -> whether its value is fine, and what is expected.

    Raises:
        InputError: one is not fine.
    """
    for key, (fine, expected) in checks.items():
        if not fine:
            raise InputError(f"{group}.{key} is {getattr(settings, key)} where {expected} is expected")
