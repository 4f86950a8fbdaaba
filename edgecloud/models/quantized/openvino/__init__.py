"""The quantised thinker as graphs of the OpenVINO CPU engine: :mod:`text` and :mod:`audio` build them,
:mod:`runtime` compiles them, :mod:`decoding` and :mod:`audio` run them."""
