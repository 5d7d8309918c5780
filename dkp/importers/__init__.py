"""Importers: other people's recordings and data sets to captures."""

from dkp.importers.datasets.board import import_board as import_board
from dkp.importers.datasets.person import import_person as import_person
from dkp.importers.recording import import_recording as import_recording
