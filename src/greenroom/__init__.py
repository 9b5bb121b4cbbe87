"""Greenroom turns an MLflow model registry into a production service.

This module is what an app imports: the values it is made of. Nothing heavy is imported here.
"""

from greenroom.app import App, Route
from greenroom.gate import Gate
from greenroom.management import Management
from greenroom.model import Model
from greenroom.privacy import Privacy
from greenroom.schema import Column
from greenroom.settings_file import SettingsFile
from greenroom.split import Split
from greenroom.status import Status
from greenroom.task import anomaly, classification, forecast, regression
from greenroom.training_route import TrainingPlan, TrainingRoute

__version__ = "0.1.0"

__all__ = [
    "App",
    "Column",
    "Gate",
    "Management",
    "Model",
    "Privacy",
    "Route",
    "SettingsFile",
    "Split",
    "Status",
    "TrainingPlan",
    "TrainingRoute",
    "anomaly",
    "classification",
    "forecast",
    "regression",
]
