"""The text model in 8 bits on kernels of our own, for processors with AVX-512 VNNI: :mod:`tile` is the
innermost loop, :mod:`kernels` a whole forward in compiled code, :mod:`text` what they run on."""
