"""The configuration file: its schema, and its errors with line, found value, expected value and the nearest key."""
