"""`python -m ftl.cli`: the same as `ftl`."""

from ftl.cli import main

main()
