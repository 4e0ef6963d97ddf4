"""The three published systems: their networks, their recipes, their figures, and ours beside them."""
