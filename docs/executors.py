"""Writes docs/executors.md: how each estimator is served, how fast, and how far from the fitted one.

`python docs/executors.py` packages each of them and takes a few minutes; `python docs/executors.py NAME...` prints the
rows of those names and writes nothing. Timings are of the day and machine that the page names; the rest is checked by a test.
"""  # noqa: INP001 a script

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
import sklearn
import xgboost as xgb
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lars,
    Lasso,
    LinearRegression,
    LogisticRegression,
    OrthogonalMatchingPursuit,
    PoissonRegressor,
    QuantileRegressor,
    RANSACRegressor,
    Ridge,
    SGDClassifier,
    SGDRegressor,
    TheilSenRegressor,
    TweedieRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, NuSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.packaging import speed
from trueline.packaging.build import Packaged, package

HERE = Path(__file__).parent
FLOATS = tuple(f"f{number:02d}" for number in range(12))
KINDS = tuple("abcdefgh")
HOLES = [*FLOATS, "maybe", "count"]
WORDS = [*FLOATS, "kind"]
EXACT = [*FLOATS, "exact"]
CONTRACT = Contract(
    (
        *(Column(name, Kind.float32) for name in FLOATS),
        Column("maybe", Kind.float32, nullable=True),
        Column("count", Kind.integer, nullable=True),
        Column("exact", Kind.float64),
        Column("kind", Kind.string, categories=KINDS),
        Column("y", Kind.float64, role=Role.target),
    )
)


@dataclass(frozen=True)
class Case:
    estimator: Any
    columns: Sequence[str] = FLOATS
    words: str = "text"  # text | enum | pandas: how the column `kind` is given to fit

    @property
    def classifies(self) -> bool:
        return bool(sklearn.base.is_classifier(self.estimator))


def scaled(last: Any) -> Any:
    return make_pipeline(StandardScaler(), last)


def encoded(encoder: Any, last: Any) -> Any:
    return make_pipeline(make_column_transformer((encoder, ["kind"]), remainder="passthrough"), last)


def codes() -> Any:
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


ONE_HOT = OneHotEncoder(handle_unknown="ignore")
SEED = {"random_state": 0}
X = {"n_estimators": 100, "n_jobs": 1, "random_state": 0}
L = {**X, "verbose": -1}

CASES: dict[str, Callable[[], Case]] = {
    "LinearRegression": lambda: Case(LinearRegression()),
    "Ridge": lambda: Case(Ridge()),
    "Lasso": lambda: Case(Lasso(0.01)),
    "ElasticNet": lambda: Case(ElasticNet(0.01)),
    "BayesianRidge": lambda: Case(BayesianRidge()),
    "ARDRegression": lambda: Case(ARDRegression()),
    "Lars": lambda: Case(Lars()),
    "OrthogonalMatchingPursuit": lambda: Case(OrthogonalMatchingPursuit()),
    "HuberRegressor": lambda: Case(HuberRegressor(max_iter=1000)),
    "QuantileRegressor": lambda: Case(QuantileRegressor(alpha=0)),
    "TheilSenRegressor": lambda: Case(TheilSenRegressor(**SEED, max_subpopulation=500)),
    "RANSACRegressor": lambda: Case(RANSACRegressor(**SEED)),
    "PoissonRegressor": lambda: Case(PoissonRegressor(max_iter=1000)),
    "GammaRegressor": lambda: Case(GammaRegressor(max_iter=1000)),
    "TweedieRegressor": lambda: Case(TweedieRegressor(power=1.5, max_iter=1000)),
    "PLSRegression": lambda: Case(PLSRegression()),
    "StandardScaler, SGDRegressor": lambda: Case(scaled(SGDRegressor(**SEED))),
    "StandardScaler, SVR": lambda: Case(scaled(SVR())),
    "StandardScaler, NuSVR": lambda: Case(scaled(NuSVR())),
    "StandardScaler, MLPRegressor": lambda: Case(
        scaled(MLPRegressor(hidden_layer_sizes=(32,), **SEED, solver="lbfgs", max_iter=3000))
    ),
    "KernelRidge": lambda: Case(KernelRidge(alpha=1.0)),
    "GaussianProcessRegressor": lambda: Case(GaussianProcessRegressor(alpha=0.1, **SEED)),
    "KNeighborsRegressor": lambda: Case(KNeighborsRegressor()),
    "DecisionTreeRegressor": lambda: Case(DecisionTreeRegressor(**SEED)),
    "RandomForestRegressor": lambda: Case(RandomForestRegressor(**SEED)),
    "RandomForestRegressor, float64 column": lambda: Case(RandomForestRegressor(**SEED), EXACT),
    "ExtraTreesRegressor": lambda: Case(ExtraTreesRegressor(**SEED)),
    "GradientBoostingRegressor": lambda: Case(GradientBoostingRegressor(**SEED)),
    "AdaBoostRegressor": lambda: Case(AdaBoostRegressor(**SEED)),
    "BaggingRegressor": lambda: Case(BaggingRegressor(**SEED)),
    "HistGradientBoostingRegressor": lambda: Case(HistGradientBoostingRegressor(**SEED)),
    "HistGradientBoostingRegressor, Poisson": lambda: Case(HistGradientBoostingRegressor(loss="poisson", **SEED)),
    "HistGradientBoostingRegressor, nulls": lambda: Case(HistGradientBoostingRegressor(**SEED), HOLES),
    "HistGradientBoostingRegressor, categories": lambda: Case(
        HistGradientBoostingRegressor(categorical_features=["kind"], **SEED), WORDS
    ),
    "HistGradientBoostingRegressor, float64 column": lambda: Case(HistGradientBoostingRegressor(**SEED), EXACT),
    "SimpleImputer, StandardScaler, Ridge": lambda: Case(
        make_pipeline(SimpleImputer(), StandardScaler(), Ridge()), HOLES
    ),
    "OneHotEncoder, Ridge": lambda: Case(encoded(ONE_HOT, Ridge()), WORDS),
    "OneHotEncoder, RandomForestRegressor": lambda: Case(encoded(ONE_HOT, RandomForestRegressor(**SEED)), WORDS),
    "OrdinalEncoder, HistGradientBoostingRegressor": lambda: Case(
        encoded(codes(), HistGradientBoostingRegressor(**SEED)), WORDS
    ),
    "TargetEncoder, Ridge": lambda: Case(encoded(TargetEncoder(**SEED), Ridge()), WORDS),
    "PolynomialFeatures, Ridge": lambda: Case(make_pipeline(PolynomialFeatures(2), Ridge())),
    "SplineTransformer, Ridge": lambda: Case(make_pipeline(SplineTransformer(), Ridge())),
    "KBinsDiscretizer, Ridge": lambda: Case(
        make_pipeline(KBinsDiscretizer(quantile_method="averaged_inverted_cdf"), Ridge())
    ),
    "MinMaxScaler, Ridge": lambda: Case(make_pipeline(MinMaxScaler(), Ridge())),
    "RobustScaler, Lasso": lambda: Case(make_pipeline(RobustScaler(), Lasso(0.01))),
    "PowerTransformer, Ridge": lambda: Case(make_pipeline(PowerTransformer(), Ridge())),
    "QuantileTransformer, Ridge": lambda: Case(make_pipeline(QuantileTransformer(n_quantiles=100, **SEED), Ridge())),
    "StandardScaler, PCA, Ridge": lambda: Case(make_pipeline(StandardScaler(), PCA(6, **SEED), Ridge())),
    "Nystroem, Ridge": lambda: Case(make_pipeline(Nystroem(n_components=50, **SEED), Ridge())),
    "SelectKBest, LinearRegression": lambda: Case(make_pipeline(SelectKBest(f_regression, k=6), LinearRegression())),
    "StandardScaler, HistGradientBoostingRegressor": lambda: Case(scaled(HistGradientBoostingRegressor(**SEED))),
    "GridSearchCV of Ridge": lambda: Case(GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=3)),
    "TransformedTargetRegressor of Ridge": lambda: Case(
        TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)
    ),
    "VotingRegressor": lambda: Case(VotingRegressor([("a", Ridge()), ("b", RandomForestRegressor(20, **SEED))])),
    "StackingRegressor": lambda: Case(
        StackingRegressor([("a", Ridge()), ("b", RandomForestRegressor(20, **SEED))], cv=3)
    ),
    "LogisticRegression": lambda: Case(LogisticRegression(max_iter=1000)),
    "OneHotEncoder, LogisticRegression": lambda: Case(encoded(ONE_HOT, LogisticRegression(max_iter=1000)), WORDS),
    "StandardScaler, SGDClassifier": lambda: Case(scaled(SGDClassifier(loss="log_loss", **SEED))),
    "LinearDiscriminantAnalysis": lambda: Case(LinearDiscriminantAnalysis()),
    "QuadraticDiscriminantAnalysis": lambda: Case(QuadraticDiscriminantAnalysis()),
    "GaussianNB": lambda: Case(GaussianNB()),
    "BernoulliNB": lambda: Case(BernoulliNB()),
    "KNeighborsClassifier": lambda: Case(KNeighborsClassifier()),
    "StandardScaler, CalibratedClassifierCV of SVC": lambda: Case(scaled(CalibratedClassifierCV(SVC(), cv=3))),
    "CalibratedClassifierCV of GaussianNB": lambda: Case(CalibratedClassifierCV(GaussianNB(), cv=3)),
    "StandardScaler, MLPClassifier": lambda: Case(
        scaled(MLPClassifier(hidden_layer_sizes=(32,), **SEED, solver="lbfgs", max_iter=3000))
    ),
    "DecisionTreeClassifier": lambda: Case(DecisionTreeClassifier(**SEED)),
    "RandomForestClassifier": lambda: Case(RandomForestClassifier(**SEED)),
    "RandomForestClassifier of 500 trees": lambda: Case(RandomForestClassifier(500, **SEED)),
    "ExtraTreesClassifier": lambda: Case(ExtraTreesClassifier(**SEED)),
    "GradientBoostingClassifier": lambda: Case(GradientBoostingClassifier(**SEED)),
    "AdaBoostClassifier": lambda: Case(AdaBoostClassifier(**SEED)),
    "BaggingClassifier": lambda: Case(BaggingClassifier(**SEED)),
    "HistGradientBoostingClassifier": lambda: Case(HistGradientBoostingClassifier(**SEED)),
    "HistGradientBoostingClassifier, categories and nulls": lambda: Case(
        HistGradientBoostingClassifier(categorical_features=["kind"], **SEED), [*HOLES, "kind"]
    ),
    "VotingClassifier, soft": lambda: Case(
        VotingClassifier([("a", LogisticRegression(max_iter=1000)), ("b", GaussianNB())], voting="soft")
    ),
    "XGBRegressor": lambda: Case(xgb.XGBRegressor(**X)),
    "XGBRegressor, nulls": lambda: Case(xgb.XGBRegressor(**X), HOLES),
    "XGBRegressor, categories": lambda: Case(
        xgb.XGBRegressor(**X, enable_categorical=True, max_cat_to_onehot=1), WORDS, "enum"
    ),
    "XGBRegressor, linear": lambda: Case(xgb.XGBRegressor(**X, booster="gblinear")),
    "XGBRFRegressor": lambda: Case(xgb.XGBRFRegressor(**X)),
    "XGBClassifier": lambda: Case(xgb.XGBClassifier(**X)),
    "StandardScaler, XGBClassifier": lambda: Case(scaled(xgb.XGBClassifier(**X))),
    "LGBMRegressor": lambda: Case(lgb.LGBMRegressor(**L)),
    "LGBMRegressor, nulls": lambda: Case(lgb.LGBMRegressor(**L), HOLES),
    "LGBMRegressor, categories": lambda: Case(lgb.LGBMRegressor(**L, cat_smooth=1), WORDS, "pandas"),
    "LGBMRegressor, zero as missing": lambda: Case(lgb.LGBMRegressor(**L, zero_as_missing=True), HOLES),
    "LGBMRegressor, linear leaves": lambda: Case(lgb.LGBMRegressor(**L, linear_tree=True)),
    "LGBMClassifier": lambda: Case(lgb.LGBMClassifier(**L)),
    "StandardScaler, LGBMClassifier": lambda: Case(scaled(lgb.LGBMClassifier(**L))),
}

TEXT = """\
# How each estimator is served

`fit` returns a fitted estimator; what serves is the fastest executor that **proves parity** with it: at most {tolerance:g} apart (absolute on
probabilities, relative on values) on held-out rows and on edge rows: each split threshold and the float of the column's own type on either side,
nulls, an unseen category, extremes. Each version keeps its executor, its speed and its worst difference
(`trueline versions`, the version's page, its tags in MLflow). Why it is so: [0024](decisions/0024-executors.md).

| executor | what it is | runs in |
|---|---|---|
| onnx | ONNX Runtime in float32, else float64. HistGradientBoosting, XGBoost and LightGBM are written by trueline, the rest by skl2onnx | the serving process |
| xgboost, lightgbm | the library's own booster, from its own file | a child process |
| treelite | Treelite's GTIL, for forests and boosters (extra `treelite`) | a child process |
| skops | the fitted estimator itself, from a file that executes nothing | a child process |

A model of `xgboost` or `lightgbm` needs that library where it is trained, and where it is served only if its executor says so; the
extras `xgboost` and `lightgbm` install them. A bare `Booster` (of `xgboost.train`, `lightgbm.train`), the scikit-learn wrappers, and pipelines that
end in one are all taken. LightGBM knows words only as categories of a pandas frame; XGBoost also as a Polars `Enum`.

## What others take without a word

These conversions finish without an error and predict something else. `tests/packaging/test_known_wrong.py` shows each to be wrong, with
skl2onnx 1.20 and scikit-learn 1.9, and that trueline does not take it.

| estimator | what goes wrong | by | here |
|---|---|---|---|
| LinearDiscriminantAnalysis | probabilities | 0.15 | refused; served by skops |
| HistGradientBoosting with categories | codes are compared as numbers; a missing one goes astray | 0.07 and more | our own writer |
| HistGradientBoosting, Poisson loss | the link is left out: the logarithm is served | 7.5 on a scale of 9.8 | our own writer |
| float32 columns and float64 thresholds | a threshold rounded to the nearest float32 moves a row that lies on it | 0.126 | thresholds are floored |
| tree ensembles in float64 | the model does not load | – | our own writer keeps thresholds as tensors |
| LightGBM with `zero_as_missing`, by Treelite | where a zero goes | 0.43 | refused; served by LightGBM |
| HistGradientBoosting with protobuf 7 | booleans where integers are wanted; no model at all | – | our own writer |

## The table

Written by `python docs/executors.py`. {rows:,} rows of {floats} floats and what else the name says, half to train and half held out; forests and
boosters of 100 trees unless said otherwise. **Timings are of {day}**, on {machine}, processor time on one thread, best of
many calls given lists as a request's row comes: they say which is faster and roughly by how much. What runs in a child also pays the hop, about 50 to 100 µs. *Worst* is the largest difference
on all rows of the proof, edges included. An ONNX model that is right but takes over 1 ms for a row (nearest neighbours) is left
for a child, where nobody waits for it.

| estimator | executor | µs a row: alone | in a batch of 32 | fitted estimator: alone | in a batch of 32 | worst | rows | refused before it |
|---|---|---|---|---|---|---|---|---|
"""


@cache
def rows(count: int = 2_000) -> pl.DataFrame:
    """Numbers, some missing, a word, and a positive target that depends on some of each."""
    draw = np.random.default_rng(5)
    values = draw.normal(size=(count, len(FLOATS))).clip(-4, 4).astype(np.float32)
    kind = draw.integers(0, len(KINDS), count)
    holes = draw.random(count) < 0.1
    frame = pl.DataFrame(values, schema=list(FLOATS)).with_columns(
        pl.Series("maybe", draw.normal(size=count).astype(np.float32)),
        pl.Series("count", draw.integers(0, 5, count)),
        pl.Series("exact", draw.normal(size=count)),
        pl.Series("kind", np.array(KINDS)[kind]),
    )
    target = values[:, 0] * 2 + np.sin(values[:, 1] * 3) + kind % 3 + draw.normal(size=count) * 0.3 + 12
    nothing = pl.Series(holes)
    return frame.with_columns(
        pl.when(nothing).then(None).otherwise(pl.col("maybe")).alias("maybe"),
        pl.when(nothing.reverse()).then(None).otherwise(pl.col("count")).alias("count"),
        pl.Series("y", target),
    )


def packaged(name: str, folder: Path) -> Packaged:
    """Fit the estimator on half of the rows and package it with the other half."""
    case = CASES[name]()
    frame = rows()
    known = frame.head(frame.height // 2)
    given: Any = known.select(list(case.columns))
    if case.words in ("enum", "pandas"):
        given = given.with_columns(pl.col("kind").cast(pl.Enum(KINDS)))
    if case.words == "pandas":
        given = given.to_pandas()
        given["kind"] = given["kind"].cat.as_unordered()
    target = known["y"].to_numpy()
    classifies = case.classifies
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, about iterations and names
        case.estimator.fit(given, (target > np.median(target)).astype(int) if classifies else target)
        return package(
            case.estimator,
            rows=frame.tail(frame.height // 2),
            contract=CONTRACT,
            task="classification" if classifies else "regression",
            folder=folder,
            created=datetime(2026, 1, 1, tzinfo=UTC),
        )


def row(name: str) -> str:
    with threadpool_limits(1), tempfile.TemporaryDirectory(prefix="trueline-executors-") as folder:
        made = packaged(name, Path(folder) / "model")
    found, fast = made.parity, made.parity.speed
    assert fast is not None  # noqa: S101  packaging measures
    figures = (fast.row_us, fast.batch_row_us, fast.native_row_us, fast.native_batch_row_us)
    executor = f"{made.kind}, {found.executor.split(', ')[1]}" if made.kind == "onnx" else made.kind
    refused = "; ".join(_short(one) for one in found.tried if "right, but" not in one)
    cells = [name, executor, *(f"{one:.3g}" for one in figures), f"{found.worst:.1g}", f"{found.rows:,}", refused]
    return f"| {' | '.join(cells)} |"


def _short(sentence: str) -> str:
    way, _, what = sentence.replace("|", "/").partition(": ")
    way = ", ".join(way.split(", ")[:2])
    return f"{way}: {what if what.startswith('differs') else what.partition(':')[0]}"


def page() -> str:
    from trueline.packaging.parity import TOLERANCE  # noqa: PLC0415  beside its use

    speed.REPEATS, speed.ENOUGH = 100, 0.03
    lines = []
    for name in CASES:
        lines.append(row(name))
        sys.stderr.write(f"{lines[-1]}\n")
    head = TEXT.format(
        tolerance=TOLERANCE,
        rows=rows().height,
        floats=len(FLOATS),
        day=f"{datetime.now(UTC):%d %B %Y}",
        machine=f"{os.cpu_count()} shared cores with scikit-learn {sklearn.__version__}, XGBoost {xgb.__version__} and LightGBM {lgb.__version__}",
    )
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.stdout.write("".join(f"{row(name)}\n" for name in sys.argv[1:]))
    else:
        (HERE / "executors.md").write_text(page())
