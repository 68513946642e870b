"""The command `shopsight`: one file a group of verbs, options that they share, and what is printed."""
