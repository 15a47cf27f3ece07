"""Where scikit-learn's HTML representation of an estimator links to for its documentation.

It holds no address: that is the project's own, as the installed package's metadata have it. Where
they have none there is no link, rather than a dead one.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata

# Of the project's addresses, by their labels as Python's packaging guide normalises them ("Project
# URLs: well-known labels"), those whose page shows the README, the likeliest first.
_LABELS = ("repository", "source", "sourcecode", "github", "homepage")


def _normalised(label: str) -> str:
    return "".join(one for one in label.lower() if one.isalnum())


@cache
def project_url() -> str:
    """The address of the project's page, without what stands behind it; "" where it has none."""
    try:
        entries = metadata("fastbp").get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    urls = {}
    for entry in entries:
        label, _, url = entry.partition(",")
        urls[_normalised(label)] = url.strip().rstrip("/")
    return next((urls[label] for label in _LABELS if label in urls), "")


class Linked:
    """An estimator that scikit-learn draws with a link to a section of the README.

    The three names are scikit-learn's, of `sklearn.utils._repr_html.base`.
    """

    _doc_link_module = "fastbp"
    _doc_section: str  # the anchor of a heading

    @property
    def _doc_link_template(self) -> str:
        return "{url}#{section}" if project_url() else ""

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"url": project_url(), "section": self._doc_section}
