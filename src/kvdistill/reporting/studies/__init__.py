"""Comparisons of several runs: E1 to E5, their claims and their report."""
