"""Synthetic captures: rendered people and dogs on calibrated rigs, with exact labels."""

from dkp.synthetic.board.synthesis import synthesize_board as synthesize_board
from dkp.synthetic.domains import DOMAINS as DOMAINS, Domain as Domain, Wardrobe as Wardrobe
from dkp.synthetic.synthesis import synthesize as synthesize
