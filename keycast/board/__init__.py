"""The boards on this computer: their ports, their boot loader, and what is put onto them and read from them."""
