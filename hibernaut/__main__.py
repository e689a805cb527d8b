"""`python -m hibernaut`: the command line."""

from hibernaut.cli import main

main()
