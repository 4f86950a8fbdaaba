"""The quantised edge: a Qwen2.5-Omni thinker in 8 or 4 bits on the OpenVINO CPU engine.

:mod:`shapes` says which tensors there are, :mod:`weights` how they are quantised, :mod:`file` how
they are stored, :mod:`convert` makes that file of a checkpoint; :mod:`text` and :mod:`audio` are the
two graphs, :mod:`runtime` compiles them, and :mod:`model` is the sequence on top.
"""
