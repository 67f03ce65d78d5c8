"""Rules that declarations are checked against."""
