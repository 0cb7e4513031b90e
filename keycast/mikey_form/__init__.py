"""The files and text forms of `keycast mikey`."""
