"""Quantised models: a family of the fast path in 8 or 4 bits on a CPU.

:mod:`shapes` says which tensors there are, :mod:`weights` how they are quantised, :mod:`file` how
they are stored, :mod:`convert` makes that file of a checkpoint; :mod:`model` is the sequence on top,
:mod:`engine` what runs it. The text model runs on :mod:`edgecloud.models.quantized.own`, our own kernels, where
the processor has what they need, else on :mod:`edgecloud.models.quantized.openvino`, as the audio tower always.
"""
