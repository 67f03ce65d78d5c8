"""Sessions in web frameworks: each file here needs the extra of its name."""
