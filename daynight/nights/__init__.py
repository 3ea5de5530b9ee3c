"""How a night is divided into cycles: budgets, cycles and sleep policies."""
