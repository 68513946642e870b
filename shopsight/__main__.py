"""`python -m shopsight` is the command `shopsight`."""

from shopsight.training.cli.main import main

main()
