"""The masked network, in which each weight has an owner; its predictions, and its export."""
