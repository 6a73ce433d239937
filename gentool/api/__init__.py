"""gentool from Python: ``train``, ``load`` and ``evaluate``, as the command line does them."""
