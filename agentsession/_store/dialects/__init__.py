"""SQL that differs between databases."""
