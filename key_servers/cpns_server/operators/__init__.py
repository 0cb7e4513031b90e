"""What operators may ask of a CPNS Server: one table of commands for the control socket and the REST interface."""
