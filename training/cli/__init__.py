"""The command `shopsight`: one file per group of commands, shared options, and printing."""
