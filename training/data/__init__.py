"""Tables from raw files: reading, cleaning, identity, snapshots."""
