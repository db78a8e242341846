"""Tools that know nothing of networks.

`checks` validates arguments, `programs` identifies and compiles traced programs, `outlines` puts a
function into words, `atomic` writes files, and `console` shows progress and handles signals.
"""
