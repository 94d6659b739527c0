"""Match the codes of two codebooks so that as many frames as can be agree: an assignment problem in integers.

Rows are matched one after another. Each new row looks for the cheapest chain of changes that ends in a free column,
by Dijkstra's algorithm on costs made non-negative by prices of rows and columns; prices are mended afterwards.

Source: H. W. Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics Quarterly 2 (1955);
shortest chains by N. Tomizawa, "On some techniques useful for solution of transportation network problems",
Networks 1 (1971). Cost: O(R^2 * C), vectorised over columns. Memory: 8 * R * C bytes.
Shapes: R rows, C columns, R <= C after a turn.
"""

import numpy as np

_FAR = np.iinfo(np.int64).max // 4


def best_matching(weights: np.ndarray) -> np.ndarray:
    """Match rows to columns, each at most once, with the largest sum of weights.

    Args:
        weights: int64 (R, C), not negative, below 2^40.

    Returns:
        int64 (min(R, C), 2): row and column of each pair, by ascending row. Where several matchings have the largest
        sum it is one of them, always the same.

    Raises:
        ValueError: Weights are negative or too large.
    """
    if weights.size and not 0 <= weights.min() <= weights.max() < 2**40:
        raise ValueError("weights must be in 0 to 2^40")
    turned = weights.shape[0] > weights.shape[1]
    costs = -(weights.T if turned else weights).astype(np.int64)
    rows = _match(np.ascontiguousarray(costs))
    pairs = np.stack([np.arange(len(rows)), rows], axis=1)
    if turned:
        pairs = pairs[np.argsort(pairs[:, 1])][:, ::-1]
    return np.ascontiguousarray(pairs)


def _match(costs: np.ndarray) -> np.ndarray:
    """Give the column of each row (R,) that makes the sum of costs (R, C) least."""
    num_rows, num_columns = costs.shape
    row_prices, column_prices = np.zeros(num_rows, np.int64), np.zeros(num_columns, np.int64)
    column_of, row_of = np.full(num_rows, -1), np.full(num_columns, -1)
    for start in range(num_rows):
        distances, previous, visited, end = _cheapest_chain(costs, row_prices, column_prices, row_of, start)
        slack = distances[end] - distances[visited]
        row_prices[start] += distances[end]
        row_prices[row_of[visited]] += slack
        column_prices[visited] -= slack
        column = end
        while column >= 0:
            row = previous[column]
            row_of[column] = row
            column, column_of[row] = column_of[row], column
    return column_of


def _cheapest_chain(
    costs: np.ndarray, row_prices: np.ndarray, column_prices: np.ndarray, row_of: np.ndarray, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Search from a free row for the nearest free column.

    Returns:
        Distances of all columns (C,), the row through which each was reached (C,), the columns that were visited
        before the end, all of them taken, and the free column.
    """
    num_columns = costs.shape[1]
    distances, previous = np.full(num_columns, _FAR), np.full(num_columns, -1)
    open_columns = np.ones(num_columns, bool)
    row, reached = start, 0
    while True:
        through = reached + costs[row] - row_prices[row] - column_prices
        nearer = open_columns & (through < distances)
        distances[nearer], previous[nearer] = through[nearer], row
        column = int(np.where(open_columns, distances, _FAR).argmin())
        reached = int(distances[column])
        if row_of[column] < 0:
            return distances, previous, np.flatnonzero(~open_columns), column
        open_columns[column] = False
        row = int(row_of[column])
