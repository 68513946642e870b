"""A shop with planted truth goes the whole way; what is found is held against what was planted."""
