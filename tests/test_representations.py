"""What estimators tell of themselves: `summary`, and the HTML that scikit-learn draws."""

import copy
import pickle
import re
from importlib.metadata import Distribution
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.sparse
from helpers import short_training
from pictures import CLASSES, KINDS, X, fitted, made, target
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

import fastbp
from fastbp import MLPClassifier, MLPRegressor, NetworkClassifier, compile, nn
from fastbp.estimators import linked

pytestmark = short_training

over_kinds = pytest.mark.parametrize("kind", KINDS)
ROOT = Path(__file__).resolve().parent.parent


# ----------------------------------------------------------------------------------------- summary


@over_kinds
def test_summary_is_the_description_of_the_network(kind):
    model = fitted(kind)
    row = "squared_error" if "Regressor" in kind.__name__ else "sigmoid_cross_entropy"
    described = compile(model.module_, row).describe()
    assert model.summary() == described
    # 4-6-6-1, of multiplications and additions two for each weight.
    sizes = (4 + 1) * 6 + (6 + 1) * 6 + (6 + 1)
    assert sum(one.n_parameters for one in described.entries) == sizes == model.n_params_
    linear = [one for one in described.entries if one.row == "linear"]
    assert [one.shapes for one in linear] == [((6,),), ((6,),), ((1,),)]
    assert [one.flops[0] for one in linear] == [2 * 4 * 6, 2 * 6 * 6, 2 * 6]
    assert described.parameter_bytes == 8 * sizes
    assert f"{sizes} parameters, {8 * sizes} bytes;" in str(described)


def test_bytes_are_of_the_parameters_that_are_told():
    layers = nn.Linear(4), nn.BatchNorm1d(), nn.Linear(1)
    description = made(NetworkClassifier, network=nn.Sequential(*layers)).fit(X, CLASSES).summary()
    # 4-4-1, with a scale and a shift for four units.
    assert "33 parameters, 264 bytes;" in str(description)


@over_kinds
def test_summary_shows_itself_in_notebooks(kind):
    html = fitted(kind).summary()._repr_html_()
    drawing, table = re.fullmatch(r"(<svg.*</svg>)\s*<pre>(.*)</pre>", html, re.S).groups()
    assert len(ElementTree.fromstring(drawing)) > 5
    assert "linear" in table and "parameters" in table


@over_kinds
def test_summary_needs_a_fitted_estimator(kind):
    with pytest.raises(NotFittedError, match=f"This {kind.__name__} instance is not fitted yet"):
        made(kind).summary()


@over_kinds
def test_summary_outlives_copies_and_changes_nothing(kind):
    model = made(kind, warm_start=True).fit(X, target(kind))
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other.summary() == model.summary()
        assert other.predict(X).tolist() == model.predict(X).tolist()
    other = copy.deepcopy(model)
    other.summary()
    np.testing.assert_array_equal(
        other.fit(X, target(kind)).predict(X), model.fit(X, target(kind)).predict(X)
    )


def test_summary_after_a_freeze_leaves_the_freeze_to_training():
    model = made(NetworkClassifier, warm_start=True).fit(X, CLASSES)
    model.module_.freeze("0")
    before = model.module_.parameters()["0.weight"].data.copy()
    assert model.summary().flops[1] < fitted(NetworkClassifier).summary().flops[1]
    model.fit(X, CLASSES)
    np.testing.assert_array_equal(model.module_.parameters()["0.weight"].data, before)


def test_summary_does_not_depend_on_what_was_predicted_last():
    model = made(MLPClassifier).fit(X, CLASSES)
    before = str(model.summary())
    model.predict(scipy.sparse.csr_array(X))
    assert str(model.summary()) == before
    assert str(made(MLPClassifier).fit(scipy.sparse.csr_array(X), CLASSES).summary())


# -------------------------------------------------------------------------------------------- HTML

PAGE = "https://example.org/fastbp"


@pytest.fixture
def page(monkeypatch):
    """As of a project that has an address."""
    monkeypatch.setattr(linked, "project_url", lambda: PAGE)


def links(html):
    return re.findall(r'href="([^"]*)"', html)


def ours(html):
    """The links that are not scikit-learn's own."""
    return [one for one in links(html) if "scikit-learn.org" not in one]


SECTIONS = dict.fromkeys((MLPClassifier, MLPRegressor), "twenty-lines-that-work")


@over_kinds
def test_html_links_to_our_documentation(kind, page):
    section = SECTIONS.get(kind, "any-network")
    for model in (made(kind), fitted(kind)):
        html = estimator_html_repr(model)
        assert model._get_doc_link() == f"{PAGE}#{section}"
        assert f"{PAGE}#{section}" in ours(html)
        assert f"Documentation for {kind.__name__}" in html
        assert "scikit-learn.org" not in "".join(links(html))


@over_kinds
def test_parameters_come_with_their_words(kind, page):
    html = estimator_html_repr(made(kind))
    for name in made(kind).get_params(deep=False):
        assert re.search(rf'class="param-doc-link"[^>]*--doc-link-{name};', html), name
    assert "Strength of the L2 penalty" in html


@over_kinds
def test_in_company_each_part_links_to_its_own(kind, page):
    section = SECTIONS.get(kind, "any-network")
    pipeline = make_pipeline(StandardScaler(), made(kind))
    search = GridSearchCV(pipeline, {f"{kind.__name__.lower()}__alpha": [0.1, 1.0]}, cv=2)
    for whole in (pipeline, search, search.fit(X, target(kind))):
        html = whole._repr_html_()
        assert kind.__name__ in html and "StandardScaler" in html
        assert f"{PAGE}#{section}" in links(html)
        assert any("StandardScaler.html" in one for one in links(html))


@over_kinds
def test_without_an_address_there_is_no_link(kind, monkeypatch):
    monkeypatch.setattr(linked, "project_url", lambda: "")
    assert made(kind)._get_doc_link() == ""
    assert ours(estimator_html_repr(made(kind))) == []


def test_html_is_had_where_it_is_asked_for():
    model = made(MLPClassifier)
    assert "text/html" in model._repr_mimebundle_()
    with config_context(display="text"):
        assert not hasattr(model, "_repr_html_")
        assert "text/html" not in model._repr_mimebundle_()


def test_a_class_of_a_user_has_no_link_of_ours(page):
    class Own(MLPClassifier):
        pass

    assert Own()._get_doc_link() == ""


def test_the_sections_are_headings_of_the_readme():
    headings = re.findall(r"^#+ (.*)$", (ROOT / "README.md").read_text(), re.M)
    anchors = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
    assert {kind._doc_section for kind in KINDS} <= anchors


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ([], ""),
        (["Changelog, https://example.org/changes"], ""),
        (["Homepage, https://example.org/", "Source Code, https://example.org/x/"], "x"),
        (["source-code, https://example.org/x", "Repository, https://example.org/y"], "y"),
    ],
)
def test_the_address_is_that_of_the_metadata(entries, wanted, monkeypatch, tmp_path):
    lines = ["Metadata-Version: 2.4", "Name: fastbp", "Version: 1.0"]
    folder = tmp_path / "fastbp-1.0.dist-info"
    folder.mkdir()
    lines += [f"Project-URL: {entry}" for entry in entries]
    (folder / "METADATA").write_text("\n".join(lines))
    monkeypatch.setattr(linked, "metadata", lambda name: Distribution.at(folder).metadata)
    linked.project_url.cache_clear()
    try:
        assert linked.project_url() == (f"https://example.org/{wanted}" if wanted else "")
    finally:
        monkeypatch.undo()
        linked.project_url.cache_clear()


def test_html_of_modules_names_no_documentation_of_scikit_learn():
    assert fastbp.nn.Linear(3)._get_doc_link() == ""
    assert "scikit-learn.org" not in "".join(links(estimator_html_repr(nn.Linear(3))))
