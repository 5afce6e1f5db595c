"""The parts of the label server; ``main.py`` puts them together."""
