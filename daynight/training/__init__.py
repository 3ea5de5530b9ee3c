"""How a day is trained: settings, checks beforehand, the loop, and the night."""
