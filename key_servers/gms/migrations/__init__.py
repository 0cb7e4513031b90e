"""The schema of the GMS's store: one SQL file for each version, applied in order of their numbers."""
