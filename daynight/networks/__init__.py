"""The masked network: any module, with an owner for each of its weights, and what is made of it."""
