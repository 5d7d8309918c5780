"""One sentence for a user out of jsonargparse's messages, which have no other form than text."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable

BRANCH = ("Does not validate against", "Subtypes:", "Errors:", "Given value", "Expected a <class 'NoneType'>")
"""Lines of jsonargparse's messages that say nothing to a user."""

_MEANT = {"Sequence": """a list, such as '["a", "b"]'""", "Mapping": """keys with values, such as '{"a": "b"}'"""}


def one_sentence(message: str) -> str:
    """Return what a user needs of one of jsonargparse's messages, which may be a tree over many lines.

    Such a tree has a line `Parser key "..."` for every level of the key and, in its first branch, the reason.
    """
    interpolation = re.search(
        r"(Interpolation key '[^']+' not found).*full_key: (?:[a-z]+\.)?(\S+)", message, re.DOTALL
    )
    if interpolation:
        return f"{interpolation[2]}: {interpolation[1]}"
    unknown = re.match(r"[Uu]nrecognized arguments: --(trainer)\.(\w+)", message)
    if unknown:
        message = f"Group '{unknown[1]}' does not accept option '{unknown[2]}'"
    keys: list[str] = []
    owner = ""
    reason = ""
    for line in (line.strip(" -") for line in message.splitlines()):
        key = re.fullmatch(r'Parser key "([^"]+)":(.*)', line)
        problem = re.match(r"Problem with given class_path '([^']+)':", line)
        if key:
            keys.append(key[1])
            reason = key[2].strip()
        elif problem:
            owner = problem[1]
        elif line and not line.startswith(BRANCH):
            reason = line
        if reason:
            break
    if not reason:
        return re.sub(r"\s+", " ", message).strip() or "the options cannot be parsed"
    option = re.fullmatch(r"(?:Group '([^']+)' does not accept option|Option) '([^']+)'(?: is not accepted)?", reason)
    if option:
        full = ".".join([*keys, *filter(None, option.groups())])
        owner = owner or {"trainer": "pytorch_lightning.Trainer"}.get(option[1] or "", "this command")
        return f"{full} is not an option of {owner}{did_you_mean(owner, option[2])}"
    for kind, meant in _MEANT.items():
        reason = reason.replace(f"Expected a <class 'collections.abc.{kind}'>", f"expected {meant}")
    if not keys and len(message.splitlines()) > 1:
        reason = re.sub(r"\s+", " ", message).strip()
    return f"{'.'.join(keys)}: {reason}" if keys else reason


def did_you_mean(owner: str, option: str) -> str:
    """Return the closest option of a class, as the end of a sentence; empty where nothing is close."""
    module, _, name = owner.rpartition(".")
    try:
        bases = inspect.getmro(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, ValueError):
        return ""
    makers = [vars(base).get("__init__", object) for base in bases]
    return near(option, {parameter for maker in makers for parameter in inspect.signature(maker).parameters})


def near(option: str, known: Iterable[str]) -> str:
    """Return the closest of known options, as the end of a sentence; empty where nothing is close."""
    found = difflib.get_close_matches(option, [*known], 1)
    return f" (did you mean {found[0]}?)" if found else ""
