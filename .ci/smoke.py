"""Tries an installed fastbp, with nothing but its runtime dependencies beside it.

Run it away from the checkout, with `python -I`, so that the installed package is the one imported.
"""

import warnings
from pathlib import Path

from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp import MLPClassifier, MLPRegressor

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = Path(fastbp.__file__).resolve()
# The environment may lie inside the checkout; the package may not be the checkout's own.
assert PACKAGE.parent.parent != CHECKOUT, f"{PACKAGE} is the checkout's"

# A few epochs are enough to see that training works.
warnings.simplefilter("ignore", ConvergenceWarning)

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
classifier = MLPClassifier(random_state=0, max_iter=60).fit(X_train, y_train)
accuracy = classifier.score(X_test, y_test)
# A linear classifier reaches 0.95 to 0.96 here: below that the hidden layer learned nothing.
assert accuracy > 0.95, accuracy

report = fastbp.check_gradients(classifier, X_train[:20], y_train[:20])
assert report.ok, report

X, y = load_diabetes(return_X_y=True)
regressor = make_pipeline(StandardScaler(), MLPRegressor(solver="lbfgs", random_state=0))
# On the samples it was trained on a linear model scores 0.52.
r2 = regressor.fit(X, y).score(X, y)
assert r2 > 0.52, r2

print(f"fastbp {fastbp.__version__}: digits {accuracy:.3f}, diabetes {r2:.3f}, gradients agree")
