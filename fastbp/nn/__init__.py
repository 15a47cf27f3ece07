"""Networks: what a plan is compiled from, and the weights that it starts with."""
