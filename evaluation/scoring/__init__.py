"""What was said against what happened: truth, baselines, errors, intervals. Arrays in, numbers out; no model."""
