"""The text model in 8 or 4 bits on kernels of our own, for processors with AVX-512 VNNI or AVX2.

:mod:`tile` is the innermost loop, :mod:`parts` the other loops, :mod:`kernels` a whole forward, all of
them compiled by numba (:mod:`compiling`); :mod:`text` holds weights, cache and threads. What numba
compiled is kept until a source of this folder changes.
"""
