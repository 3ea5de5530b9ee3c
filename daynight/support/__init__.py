"""Tools for all other packages: checks of arguments, random streams, files written whole or not at all, digests."""
