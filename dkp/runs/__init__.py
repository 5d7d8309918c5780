"""Runs of a task: what the options and files of `dkp fit|validate|test|predict` say, and the run itself."""
