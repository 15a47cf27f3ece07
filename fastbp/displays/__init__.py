"""Pictures of estimators, in scikit-learn's manner: `from_estimator`, `plot`, `ax_`, `figure_`.

matplotlib, the extra `plot`, is imported only where something is drawn. What is measured comes from
the estimators' attributes and from `diagnose`; nothing is measured a second time here.
"""

from fastbp.displays.activations import ActivationDisplay
from fastbp.displays.fits import FitDisplay
from fastbp.displays.gradients import GradientFlowDisplay
from fastbp.displays.losses import LossCurveDisplay

__all__ = ["ActivationDisplay", "FitDisplay", "GradientFlowDisplay", "LossCurveDisplay"]
