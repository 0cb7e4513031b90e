"""Mutation testing of decisions: change one place of what a decision guards, and see that a test named for it fails."""
