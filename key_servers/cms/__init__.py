"""The configuration management server (CMS): user profiles, and news of their changes."""
