"""Options of recipes: what their words stand for, and networks and weights given by one of them."""
