"""``python -m dkp`` is the console script ``dkp``."""

from dkp.cli import main

if __name__ == "__main__":
    main()
