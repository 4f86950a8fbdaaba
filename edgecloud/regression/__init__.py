"""The regression check: is a new run as good as the recorded one? Reading, policy, comparison, words.

``reading`` turns files of three kinds into :class:`~edgecloud.regression.model.Benchmark` values;
``judge`` compares them under a ``policy`` into a :class:`~edgecloud.regression.model.Report`;
``wording`` says it as text, markdown, GitHub annotations or JUnit; ``baselines`` records what is
accepted.
"""
