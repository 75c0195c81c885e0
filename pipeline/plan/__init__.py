"""The index of candidate windows, and the plan of a dataset that is drawn from it."""
