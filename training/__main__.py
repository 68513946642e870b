"""`python -m training` is the command `shopsight`, as it was called before `python -m shopsight`."""

from shopsight.training.cli.main import main

main()
