"""The command line: ``dkp COMMAND``. Everything above the rooms that do the work."""

from dkp.cli.commands import main as main
