"""What an update of a board is: a signed SUIT envelope, an image, and the coded frames in which it is broadcast."""
