"""`python -m training` is the `shopsight` command; a job on a cluster runs it from a checkout."""

from training.cli import main

main()
