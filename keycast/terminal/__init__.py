"""How a command reads what is typed and gives its answer: options, tables, dates, JSON, the log."""
