"""Search the space for the most accurate subnets at each latency, by evolution over the predictors.

The result is a Pareto front of predictions; `deployment` measures its candidates before one is shipped.
"""
