"""What all other packages use: checks of arguments, random streams, files written whole or not at all, digests."""
