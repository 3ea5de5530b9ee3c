"""How a night is laid out: budgets, cycles, and the sleep policies."""
