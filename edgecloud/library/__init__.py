"""What a notebook or a program of one's own calls: a pair, captions, scores, experiments, results.

Everything public of it is reached from :mod:`edgecloud` itself, which loads none of this before it is used. Nothing
here prints, and nothing touches the program's signals.
"""
