"""The report as a page: ``to_html`` of :mod:`edgecloud.report.html.page`. Needs the extra ``report``."""
