"""The benchmark suite: every figure beside a peer and beside the machine's bound, measured in one run."""
