"""Sweeps: many runs with other values, by the same file that Weights & Biases reads, without an account."""

from dkp.sweep.command import sweep as sweep
