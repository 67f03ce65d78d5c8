"""Everything that happens at import: the decorators, their verifiers, the actions that a class gets."""
