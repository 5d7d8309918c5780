"""Recipes: the YAML files that describe runs, each a whole, or a change to the one that it names as its `base`."""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from dkp.config_files import Loader, read_mapping
from dkp.errors import InputError
from dkp.sentences import near

CONFIG = ("--config", "-c")
TERM = re.compile(r"--model(?:\.init_args)?\.terms\.(\w+)(?:\.init_args)?(?:\.(\w+))?")
"""An option of a loss term, or the term itself: the parser would take `null` for neither."""
NULL = ("null", "Null", "NULL", "~")


def recipe_folder() -> Path:
    """Return the shipped recipes: beside the package in a checkout, inside it when installed.

    Raises:
        InputError: they are in neither.
    """
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "configs", package / "configs"):
        if (folder / "people").is_dir():
            return folder
    raise InputError(f"{package}: no folder configs beside or inside the package, expected dkp's recipes")


def read_recipe(path: str | Path, name: str | None = None) -> dict[str, Any]:
    """Read a recipe, put on top of its base where it names one.

    The key `base` is a path relative to the file that has it.

    Args:
        path: the file.
        name: of the file in messages; default its path.

    Raises:
        InputError: a file is missing, not YAML or no mapping, or the bases lead back to a file.
    """
    return _read(Path(path), name or str(path), ())


def _read(path: Path, name: str, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise InputError(f"{name} leads back to a file that is based on it, expected a base that is complete in itself")
    recipe = read_mapping(path, name)
    base = recipe.pop("base", None)
    if base is None:
        return recipe
    if not isinstance(base, str):
        raise InputError(f"{name}: base is {base!r} where the path of a YAML file is expected")
    file = path.parent / base
    return merged(_read(file, f"{name}: base {file}", (*seen, path.resolve())), recipe)


def merged(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings put on top of each other: mappings key by key, anything else whole.

    Callbacks add up; a later one takes the place of an earlier one of its class. Where two mappings have a `class_path`
    and it differs, the later one takes the place of the earlier one, whose options are those of another class.

    Examples:
        >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
        {'a': {'b': 1, 'c': 3}}
    """
    result: dict[str, Any] = {}
    for layer in settings:
        for key, value in layer.items():
            before = result.get(key)
            if isinstance(value, Mapping) and isinstance(before, Mapping):
                path = value.get("class_path")
                other = path is not None and path != before.get("class_path", path)
                value = value if other else merged(before, value)
            result[key] = value
            if key == "callbacks" and value is not None:
                own = as_list(value)
                result[key] = [one for one in as_list(before) if class_name(one) not in map(class_name, own)] + own
    return result


def as_list(value: Any) -> list[Any]:
    """One, several or none."""
    return value if isinstance(value, list) else [] if value is None else [value]


def class_name(callback: Any) -> str:
    """Return the last part of a callback's class path."""
    path = callback.get("class_path", "") if isinstance(callback, Mapping) else callback
    return str(path).rpartition(".")[2]


def require_configs(words: Sequence[str]) -> None:
    """Read the configuration files of a command line, only to say what is wrong with them.

    Raises:
        InputError: as for `read_recipe`.
    """
    for word, following in pairwise([*words, ""]):
        option, equals, value = word.partition("=")
        if option in CONFIG and (equals or following):
            read_recipe(value or following, f"--config {value or following}")


def one_config(words: Sequence[str], last: Mapping[str, Any] | None = None, with_terms: bool = True) -> list[str]:
    """Words of a command line whose configuration files are put on top of each other, as one text before the others.

    The parser would take a later file's mapping of terms in place of an earlier one's, it knows no `base`, and it makes
    the text "None" of a `null` that an option gives to a class within a class. So options of loss terms, and those that
    set a value of the recipe to `null`, go into the text.

    Args:
        words: of `dkp fit` and the like, with `--config FILE` as often as wanted; later files count more.
        last: settings on top of all files.
        with_terms: False leaves the files' loss terms out: those of another version's run may not be known any more.

    Returns:
        The other words, after `--config=TEXT`; the words themselves where there is no setting.

    Raises:
        InputError: as for `read_recipe`; an option is of a loss term that no file has.
    """
    recipes, terms, nulls, rest = [], [], [], []
    left = list(words)
    while left:
        word = left.pop(0)
        option, equals, value = word.partition("=")
        term = TERM.fullmatch(option)
        if (option in CONFIG or term) and (equals or left):
            value = value if equals else left.pop(0)
            if term:
                terms.append(term_setting(term[1], term[2], value))
            else:
                recipes.append(read_recipe(value, f"--config {value}"))
        elif "." in option and (value if equals else next(iter(left), None)) in NULL:
            del left[: not equals]
            nulls.append(option)
            rest.append(f"{option}=null")
        else:
            rest.append(word)
    if not recipes and not terms and not last:
        return rest
    require_terms(merged(*recipes), terms)
    recipe = merged(*recipes, *terms, last or {})
    if not with_terms and not terms:
        ((recipe.get("model") or {}).get("init_args") or {}).pop("terms", None)
    for option in nulls:
        if [word for word in rest if word.partition("=")[0] == option][-1] == f"{option}=null" and set_null(
            recipe, option
        ):
            rest = without(rest, option)
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    return [f"--config={text}", *rest]


def set_null(recipe: dict[str, Any], option: str) -> bool:
    """Set a value of a recipe to null, and return whether the recipe has it.

    Args:
        recipe: is changed.
        option: as `--model.detector.weights`, with or without `init_args`.
    """
    held: Any = recipe
    *above, last = [key for key in option.removeprefix("--").split(".") if key != "init_args"]
    for key in [*above, ""]:
        held = held.get("init_args", held) if isinstance(held, dict) else {}
        if key:
            held = held.get(key)
    if not isinstance(held, dict) or last not in held:
        return False
    held[last] = None
    return True


def without(words: Sequence[str], option: str) -> list[str]:
    """Return a command line without an option that has values of its own, wherever it stands."""
    left, found = list(words), []
    while left:
        word = left.pop(0)
        if word == option:
            del left[:1]
        elif not word.startswith(f"{option}="):
            found.append(word)
    return found


def require_terms(recipe: Mapping[str, Any], settings: Sequence[Mapping[str, Any]]) -> None:
    """Refuse options of loss terms that a recipe with terms does not have; one given with its class is a new term."""
    try:
        known = set(recipe["model"]["init_args"]["terms"])
    except (KeyError, TypeError):
        return
    for setting in settings:
        for name, given in setting["model"]["init_args"]["terms"].items():
            if isinstance(given, Mapping) and "class_path" not in given and name not in known:
                raise InputError(
                    f"--model.terms.{name}: the recipe has no term {name}{near(name, known)}, expected one of "
                    f"{', '.join(sorted(known))}, or its class first: --model.terms.{name} CLASS"
                )
            known.add(name)


def term_setting(name: str, key: str | None, value: str) -> dict[str, Any]:
    """Return the setting that an option of a loss term stands for.

    Args:
        name: of the term.
        key: of its option; None = the term itself, by its class or as a mapping.
        value: as YAML.
    """
    given = Loader(value).get_single_data()
    if key is not None:
        given = {"class_path": given} if key == "class_path" else {"init_args": {key: given}}
    elif isinstance(given, str):
        given = {"class_path": given}
    return {"model": {"init_args": {"terms": {name: given}}}}


def spelled(value: Any) -> str:
    """Return a value as an option's text."""
    return value if isinstance(value, str) else json.dumps(value)


# What recipes may compute: ${share_of_surface:...} and ${by_device:...}


def share_of_surface(surface: str, share: float) -> float:
    """Return a length as a share of a surface's largest side [m], to five digits.

    Args:
        surface: name or file of the surface.
        share: of its side.
    """
    from dkp.surface import Surface

    return float(f"{share * Surface.load(surface).extent:.5g}")


def by_device(accelerator: str, cpu: Any, gpu: Any) -> Any:
    """One of two values.

    Args:
        accelerator: the trainer's; with "auto", a GPU counts where torch finds one.
        cpu: the value on anything else.
        gpu: the value on a GPU of NVIDIA's.
    """
    import torch

    found = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    return gpu if found else cpu


for function in (share_of_surface, by_device):
    OmegaConf.register_resolver(function.__name__, function, replace=True)
