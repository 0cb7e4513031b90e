"""The pages of a gateway in a real browser: for tests, benches, and the pictures of the documentation."""
