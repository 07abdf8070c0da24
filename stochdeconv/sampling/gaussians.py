"""Gaussians fitted to few rows of many numbers: principal components, what they leave out, and links between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stochdeconv.errors import InputError

# Kept components: enough for this part of the variance, never more than one for four rows (a variance needs rows to be
# estimated from) nor more than 120, which held 88 % of the variance of 760 rows.
EXPLAINED = 0.95
ROWS_PER_COMPONENT = 4
MAX_COMPONENTS = 120
# Draws further out than this part of the real rows are pulled back: a Gaussian reaches where no image does.
TYPICAL_QUANTILE = 0.95
# A link takes what its mean leaves open from one of this many rows that look alike in the part above: near enough to fit, and enough
# of them that a chain does not follow a single row from end to end.
SIMILAR_ROWS = 10
# Folds of the cross-validation that tells how far an image of the class may be out; each leaves out few rows, so that what is fitted to
# the others is nearly as good as what is fitted to all.
N_FOLDS = 10
# Ridge penalties tried, in units of the predictors' mean variance times the number of rows.
RIDGE_PENALTIES = np.logspace(-3.0, 3.0, 13)


@dataclass(frozen=True, eq=False)
class PrincipalGaussian:
    """Draw from the Gaussian with the covariance of given rows, split into leading components and the rest.

    The leading components are what other parts are conditioned on and what is judged typical; the rest is drawn as a Gaussian
    combination of the rows' own residuals. Together a draw has exactly the covariance of the rows, however few they are.

    Attributes
    ----------
    components : ndarray of shape (component, column)
        Orthonormal axes, largest variance first.
    variances : ndarray of shape (component,)
        Variance of the rows along each (n_rows - 1 in the denominator), all above zero.
    residuals : ndarray of shape (row, column)
        What the components leave out of every row.
    limit : float
        The squared Mahalanobis distance that 95 % of the rows stay within.
    """

    components: np.ndarray
    variances: np.ndarray
    residuals: np.ndarray
    limit: float

    @classmethod
    def fit(cls, rows: np.ndarray) -> PrincipalGaussian:
        """Fit to centred rows of shape (row, column), at least two."""
        n_rows = len(rows)
        # The smaller of the two Gram matrices has all of it: many times faster than an SVD of 1000 rows of 3000 columns.
        wide = rows.shape[1] > n_rows
        values, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
        variances = np.maximum(values[::-1], 0.0) / (n_rows - 1)
        total = variances.sum()
        # Directions of rounding error carry no information; dividing by their variance would only amplify it.
        n_rank = int(np.sum(variances > 1e-10 * max(total, np.finfo(float).tiny)))
        if n_rank:
            n_enough = int(np.searchsorted(np.cumsum(variances), EXPLAINED * total)) + 1
            n_rank = min(n_rank, n_enough, MAX_COMPONENTS, max(1, n_rows // ROWS_PER_COMPONENT))
        variances, components = variances[:n_rank], vectors.T[::-1][:n_rank]
        if wide:
            components = components @ rows / np.sqrt(variances * (n_rows - 1))[:, None]
        scores = rows @ components.T
        distances = np.sum(scores**2 / variances, axis=1)
        limit = float(np.quantile(distances, TYPICAL_QUANTILE))
        return cls(components, variances, rows - scores @ components, limit)

    def project(self, rows: np.ndarray) -> np.ndarray:
        """Scores of centred rows: (..., column) to (..., component)."""
        return rows @ self.components.T

    def clip(self, scores: np.ndarray) -> np.ndarray:
        """Pull scores of shape (component,) back to the distance that 95 % of the rows stay within."""
        distance = float(np.sum(scores**2 / self.variances))
        return scores * np.sqrt(self.limit / distance) if distance > self.limit else scores

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Scores of shape (component,), not clipped."""
        return rng.standard_normal(len(self.variances)) * np.sqrt(self.variances)

    def draw_residual(self, rng: np.random.Generator) -> np.ndarray:
        """Draw what the components leave out, of shape (column,): Gaussian with the covariance of the rows' residuals."""
        n_rows = len(self.residuals)
        return rng.standard_normal(n_rows) @ self.residuals / np.sqrt(n_rows - 1)

    def expand(self, scores: np.ndarray) -> np.ndarray:
        """Deviation of shape (column,) of scores of shape (component,)."""
        return scores @ self.components


@dataclass(frozen=True, eq=False)
class ShrunkGaussian:
    """Tell which rows are no draws from where given rows come from, however few these are (Ledoit & Wolf 2004).

    Attributes
    ----------
    mean : ndarray of shape (column,)
    precision : ndarray of shape (column, column)
        Inverse of the covariance, which is shrunk toward a multiple of the identity.
    limit : float
        The squared Mahalanobis distance that 95 % of rows that were not fitted stay within.
    """

    mean: np.ndarray
    precision: np.ndarray
    limit: float

    @classmethod
    def fit(cls, rows: np.ndarray) -> ShrunkGaussian:
        """Fit to rows of shape (row, column), at least `N_FOLDS` + 1, not all the same.

        The limit is cross-validated, mean and covariance fitted anew for each fold: a Gaussian fitted to fewer rows than columns has all
        of its own rows near, and every other row far away.
        """
        from scipy.linalg import solve
        from sklearn.covariance import ledoit_wolf  # slow to import: only where outliers are looked for

        def fitted(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            mean = some.mean(axis=0)
            return mean, ledoit_wolf(some - mean, assume_centered=True)[0]

        rows = np.asarray(rows, np.float64)
        if len(rows) <= N_FOLDS or not np.ptp(rows, axis=0).any():
            raise InputError(
                f"a cross-validated Gaussian needs more than {N_FOLDS} rows that differ; got {len(rows)} of {rows.shape[1]} numbers"
            )
        distances = np.empty(len(rows))
        for fold in range(N_FOLDS):
            left_out = np.arange(len(rows)) % N_FOLDS == fold
            mean, covariance = fitted(rows[~left_out])
            deviations = (rows[left_out] - mean).T
            distances[left_out] = np.sum(deviations * solve(covariance, deviations, assume_a="pos"), axis=0)
        mean, covariance = fitted(rows)
        return cls(mean, np.linalg.inv(covariance), float(np.quantile(distances, TYPICAL_QUANTILE)))

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances, (row,), of rows (row, column)."""
        deviations = rows - self.mean
        return np.einsum("rc,cd,rd->r", deviations, self.precision, deviations, optimize=True)


@dataclass(frozen=True, eq=False)
class Link:
    """A conditional distribution: scores given the scores of the part above.

    Attributes
    ----------
    coefficients : ndarray of shape (component, component above)
        Conditional mean per unit of the part above, by ridge regression.
    noise : ndarray of shape (component, component)
        A square root of the conditional covariance.
    above : ndarray of shape (row, component above)
        Scores of the part above, of every row.
    residuals : ndarray of shape (row, component)
        What the conditional mean leaves out of every row.
    """

    coefficients: np.ndarray
    noise: np.ndarray
    above: np.ndarray
    residuals: np.ndarray

    @classmethod
    def fit(cls, scores: np.ndarray, above: np.ndarray) -> Link:
        """Fit to centred, row-aligned scores of shapes (row, component) and (row, component above).

        The conditional covariance is the positive part of ``cov(scores) - B cov(above) B'``, so that however much the ridge
        shrinks ``B``, the marginal covariance of a draw stays that of the rows.
        """
        from sklearn.linear_model import RidgeCV  # slow to import: only where a chain is fitted

        n_rows = len(scores)
        covariance, covariance_above = (part.T @ part / (n_rows - 1) for part in (scores, above))
        coefficients = np.zeros((scores.shape[1], above.shape[1]))
        unit = np.trace(covariance_above) / max(above.shape[1], 1) * (n_rows - 1)
        if scores.shape[1] and unit > 0:
            # Leave-one-out error picks the penalty: with fewer rows, or a link of little truth, more of it is shrunk away.
            ridge = RidgeCV(alphas=unit * RIDGE_PENALTIES, fit_intercept=False).fit(above, scores)
            coefficients = ridge.coef_.reshape(coefficients.shape)
        noise = positive_root(covariance - coefficients @ covariance_above @ coefficients.T)
        return cls(coefficients, noise, above, scores - above @ coefficients.T)

    def similar_row(self, above: np.ndarray, rng: np.random.Generator) -> int:
        """Draw one of the `SIMILAR_ROWS` rows whose part above is nearest to given scores; any row where there is nothing above."""
        if not self.above.shape[1]:
            return int(rng.integers(len(self.above)))
        order = np.argsort(((self.above - above) ** 2).sum(axis=1), kind="stable")
        return int(rng.choice(order[:SIMILAR_ROWS]))

    def draw(self, above: np.ndarray, rng: np.random.Generator, *, row: int = 0, row_weight: float = 0.0) -> np.ndarray:
        """Scores of shape (component,) given those of the part above, not clipped.

        The deviation from the conditional mean is a Gaussian one for `row_weight` 0, a row's own for 1, and between the two a mixture
        that keeps the variance (smoothed residual bootstrap).
        """
        own, smooth = row_weight * self.residuals[row], np.sqrt(1.0 - row_weight**2)
        return self.coefficients @ above + own + smooth * (self.noise @ rng.standard_normal(len(self.noise)))


def positive_root(matrix: np.ndarray) -> np.ndarray:
    """Symmetric square root of the positive semidefinite part of a symmetric matrix."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
