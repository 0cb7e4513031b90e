"""The configuration file: one schema, and faults told with line, found, expected and the nearest key."""
