"""The printed board, drawn with exact labels."""
