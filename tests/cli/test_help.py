"""Help of every command, without importing what the command needs."""

import importlib
import inspect
import subprocess
import sys

import pytest

from dkp.cli import main
from dkp.cli.commands import FUNCTIONS
from dkp.cli.help import command_help, description
from dkp.runs.options import LIGHTNING
from dkp.synthetic.species import SPECIES

HEAVY = {
    "torch",
    "pytorch_lightning",
    "torchmetrics",
    "torchvision",
    "kornia",
    "timm",
    "albumentations",
    "cv2",
    "scipy",
}
HEAVY |= {"numpy", "matplotlib", "jsonargparse", "omegaconf"}


@pytest.mark.parametrize("command", FUNCTIONS)
def test_the_help_lists_what_the_function_takes(command):
    function = FUNCTIONS[command]
    module, name = function.split(":")
    text = command_help(command, function)
    assert description(function) in text
    assert "``" not in text
    assert ":class:" not in text
    for parameter in inspect.signature(getattr(importlib.import_module(module), name)).parameters.values():
        bare = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        shown = parameter.name.upper() if bare else f"--{parameter.name.replace('_', '-')}"
        (line,) = (line for line in text.splitlines() if line.startswith(f"  {shown} "))
        assert not line.strip().startswith(f"{shown} ("), "an argument without a description"


def test_the_help_of_synthesize_lists_all_domains():
    text = command_help("synthesize", FUNCTIONS["synthesize"])
    assert all(name in text for kind in SPECIES.values() for name in kind.domains)


def test_no_help_imports_what_takes_long():
    """In processor time `dkp fit --help` took 5.5 s and `dkp check --help` 2.5 s when they imported torch."""
    words = [*([name, "--help"] for name in LIGHTNING), *([*name.split(), "--help"] for name in FUNCTIONS)]
    code = f"import sys\nfrom dkp.cli import main\nfor words in {words}: main(words)\n"
    code += f"sys.exit(bool({HEAVY} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.parametrize("command", LIGHTNING)
def test_the_help_of_runs_lists_shared_values_with_hyphens(command, capsys):
    main([command, "--help"])
    printed = capsys.readouterr().out
    for option in ("--ckpt-path", "--target", "--sigma", "--seed-everything", "--help-all"):
        assert f"  {option} " in printed
