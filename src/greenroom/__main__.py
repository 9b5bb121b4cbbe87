"""``python -m greenroom``: the command line, where the console script is not on the path."""

from greenroom.cli import main

main()
