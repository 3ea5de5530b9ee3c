"""The masked network, in which each weight has an owner, and what is computed and exported with it."""
