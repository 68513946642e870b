"""`python -m training` is the command `shopsight`, under its old name; write `python -m shopsight`."""

from shopsight.training.cli.main import main

main()
