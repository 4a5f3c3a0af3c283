"""Comparison of several runs: experiments E1 to E5, the claims about them and their report."""
