"""The text model in 8 or 4 bits on kernels of our own, for processors with AVX-512 VNNI.

:mod:`tile` is the innermost loop, :mod:`parts` the other loops, :mod:`kernels` a whole forward, all of
them compiled by numba; :mod:`text` is what they run on. Numba keeps what it compiled beside a file until
that file changes: after a change of ``tile`` or ``parts``, touch ``kernels``.
"""
