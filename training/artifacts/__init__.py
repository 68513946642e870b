"""Files of a workspace, written and read so that neither a kill nor a concurrent process damages them."""
