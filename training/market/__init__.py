"""Behaviour and the market: experiments."""
