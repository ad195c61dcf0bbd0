"""Data for training: read, check, measure and split. Knows no interface; opens nothing but the files it is given."""
