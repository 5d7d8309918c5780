"""Measured speed: side by side in one run, as ratios that mean something on another machine, too."""
