"""The key file that `keycast mikey` reads, and the text forms of a message that it reads and prints."""
