"""Scripts that made the surfaces shipped in ``dkp/surface/assets``. Not needed at run time."""
