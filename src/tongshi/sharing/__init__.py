"""Sharing: who somebody is, what they were granted, and the one decision whether they may."""
