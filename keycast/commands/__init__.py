"""One module for each word of the command, with what is typed after it."""
