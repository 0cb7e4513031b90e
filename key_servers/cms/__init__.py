"""The configuration management server (CMS), which keeps user profiles and tells clients of their changes."""
