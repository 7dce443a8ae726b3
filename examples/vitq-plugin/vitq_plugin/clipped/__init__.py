"""A method: weights clipped where the squared error is least."""
