"""Configuration files of runs: reading them as what was written, or saying what is wrong and where."""

import re
from pathlib import Path
from typing import Any

import yaml

from dkp.errors import InputError
from dkp.files import decoded

CONFIG = "config.yaml"
RESOLVED = "config.resolved.yaml"
"""Files in a run's folder: its configuration with references such as ``${target}``, and with their values."""


class Loader(yaml.SafeLoader):
    """YAML with the words of its version 1.2: `no`, `off` and `y` are words, and 1e-3 is a number."""


Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def run_config(config: str | Path) -> dict[str, Any]:
    """Return what a run's saved configuration says, with values in place of its references.

    Raises:
        InputError: as for `read_mapping`.
    """
    resolved = Path(config).with_name(RESOLVED)
    return read_mapping(resolved if resolved.is_file() else Path(config), f"config {config}")


def read_mapping(path: Path, name: str) -> dict[str, Any]:
    """Return what a YAML file says.

    Raises:
        InputError: the file is missing, cannot be read or is no YAML with keys; the sentence says where.
    """
    if not path.is_file():
        raise InputError(f"{name} {'is a folder' if path.is_dir() else 'does not exist'} where a YAML file is expected")
    try:
        content = Loader(decoded(path.read_bytes())).get_single_data()
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{name}, line {line}: not UTF-8, expected a YAML file in UTF-8") from error
    except yaml.YAMLError as error:
        raise InputError(f"{name}{not_yaml(error)}, expected keys with values") from error
    if not isinstance(content, dict):
        raise InputError(f"{name} holds {type(content).__name__} where keys with values are expected")
    return content


def not_yaml(error: Exception) -> str:
    """Return what a reader of YAML has found wrong, to follow a file's name: `, line 3: not YAML (...)`."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    problem = " ".join((problem or str(error) or "unreadable").split())
    problem = "a tab, expected spaces" if repr("\t") in problem else problem
    return f"{'' if mark is None else f', line {mark.line + 1}'}: not YAML ({problem})"
