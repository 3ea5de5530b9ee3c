"""What all other packages stand on: checks of arguments, random streams, whole files, digests."""
