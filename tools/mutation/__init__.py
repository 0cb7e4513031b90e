"""Mutation testing of decisions: change one place in the code of a decision, and see whether a test of it fails."""
