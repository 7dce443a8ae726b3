"""The measurements of a cell, a module each: quantize the model, its accuracy, its counts, its latency."""
