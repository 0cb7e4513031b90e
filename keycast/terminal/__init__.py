"""The command's input and output on a terminal: options, tables, dates, JSON, the log."""
