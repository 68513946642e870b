"""The sources file: its keys, what is checked of them, and the sources that come out."""
