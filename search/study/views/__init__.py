"""A study for people and other programs: figures, the arrays of scikit-learn, two trials."""
