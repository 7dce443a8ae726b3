"""PMQ, a reconstruction: mixed precision from Pareto frontiers of sensitivity and cost."""
