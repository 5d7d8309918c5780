"""Synthetic captures: rendered people and dogs on calibrated rigs, with exact labels."""

from dkp.synthetic.board.synthesis import synthesize_board
from dkp.synthetic.domains import DOMAINS, Domain, Wardrobe
from dkp.synthetic.synthesis import synthesize

__all__ = ["DOMAINS", "Domain", "Wardrobe", "synthesize", "synthesize_board"]
