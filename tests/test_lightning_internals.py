"""Names of Lightning's that are not public are used in one file, and the release is bounded because of it."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import dkp

ROOT = Path(__file__).parents[1]
LIGHTNING = ("pytorch_lightning", "lightning_fabric")


def modules():
    """Every module of the package but those that bake assets."""
    for found in pkgutil.walk_packages(dkp.__path__, "dkp."):
        if "bake" not in found.name and not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def private_names(module):
    """Names of Lightning's that are not public and that a module imports, overrides or reaches for."""
    text = inspect.getsource(module)
    found = re.findall(r"from (?:pytorch_lightning|lightning_fabric)[^\n]* import [^\n]*\b(_[a-z]\w*)", text)
    for name, value in vars(module).items():
        if inspect.isclass(value) and value.__module__ == module.__name__:
            bases = [base for base in value.__mro__[1:] if base.__module__.startswith(LIGHTNING)]
            found += [
                one
                for one in vars(value)
                if re.match(r"_(?!abc_)[a-z]", one) and any(one in vars(base) for base in bases)
            ]
        elif inspect.ismodule(value) and value.__name__.startswith(LIGHTNING):
            found += re.findall(rf"\b{name}\.(_[a-z]\w*)", text)
    return found


def test_no_other_file_uses_a_private_name():
    used = {module.__name__: names for module in modules() if (names := private_names(module))}
    assert list(used) == ["dkp.lightning_internals"], used
    assert set(used["dkp.lightning_internals"]) == {"_get_train_description", "_given_hyperparameters"}


def test_releases_are_bounded():
    assert re.search(r'"pytorch-lightning>=[\d.]+,<2\.7"', (ROOT / "pyproject.toml").read_text())
