"""The delivery of a Group Key to the members of a Service Group: engine, execution, confirmations, pulls."""
