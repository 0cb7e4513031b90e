"""What only processes that share a database need, one SQL file for each version, applied in order of their numbers."""
