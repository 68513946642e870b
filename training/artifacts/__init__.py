"""What lies on disk, and how it is written and read so that a kill or a second process harms nothing."""
