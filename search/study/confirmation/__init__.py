"""The study in which the best trials of another one are trained again."""
