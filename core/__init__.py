"""Nouns, Protocols and formats that the online and the offline side share.

numpy and the standard library only. Never a place for helpers.
"""
