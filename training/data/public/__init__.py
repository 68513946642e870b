"""Sources files of public data sets; adapters.py puts the path of the data into them."""
