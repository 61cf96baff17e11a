"""Metrics of the quality of samples."""

from gankit.metrics.classes import ClassBalance, class_balance
from gankit.metrics.distances import KernelDistance, frechet_distance, kernel_distance
from gankit.metrics.evaluation import Evaluation
from gankit.metrics.feature_distance import FeatureDistance
from gankit.metrics.feature_scores import FEATURE_METRICS, feature_values
from gankit.metrics.features import Extractor, extract_features
from gankit.metrics.inception_network import inception
from gankit.metrics.manifolds import coverage, density, precision, recall
from gankit.metrics.mixture_evaluator import MixtureEvaluator
from gankit.metrics.mixture_modes import ModeCoverage, mode_coverage
from gankit.metrics.mnist.classifier import MnistClassifier, mnist_classifier
from gankit.metrics.mnist.evaluator import MnistEvaluator
from gankit.metrics.mnist.stacked import StackedMnistEvaluator, StackedMnistModes, stacked_mnist_modes
from gankit.metrics.parzen import ParzenLogLikelihood, parzen_log_likelihood
from gankit.metrics.scores import Better, Evaluator, Score

__all__ = [
    "FEATURE_METRICS",
    "Better",
    "ClassBalance",
    "Evaluation",
    "Evaluator",
    "Extractor",
    "FeatureDistance",
    "KernelDistance",
    "MixtureEvaluator",
    "MnistClassifier",
    "MnistEvaluator",
    "ModeCoverage",
    "ParzenLogLikelihood",
    "Score",
    "StackedMnistEvaluator",
    "StackedMnistModes",
    "class_balance",
    "coverage",
    "density",
    "extract_features",
    "feature_values",
    "frechet_distance",
    "inception",
    "kernel_distance",
    "mnist_classifier",
    "mode_coverage",
    "parzen_log_likelihood",
    "precision",
    "recall",
    "stacked_mnist_modes",
]
