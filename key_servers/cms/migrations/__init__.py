"""The CMS store's schema, one SQL file a version."""
