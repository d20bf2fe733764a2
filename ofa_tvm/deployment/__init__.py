"""From a Pareto front to a bundle: candidates are built, measured and accepted until the budget is met."""
