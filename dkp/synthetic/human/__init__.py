"""Synthetic people: how they move and what they look like."""
