"""`python -m agentsession`."""

from agentsession._cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
