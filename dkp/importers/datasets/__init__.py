"""Importers of single data sets, one module a data set."""
