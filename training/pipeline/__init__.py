"""The families of models under one roof: recipes and overrides, training, evaluation, export."""
