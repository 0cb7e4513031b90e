"""The GMS store's schema, one SQL file a version."""
