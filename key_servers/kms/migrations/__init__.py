"""The store's schema, one SQL file for each version, applied in order of their numbers."""
