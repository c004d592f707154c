"""Ranking metrics against ir-measures, and the rules of the protocol."""

import ir_measures
import numpy as np
import pytest
import torch
from ir_measures import AP, P, R, nDCG

from trainables.data.bundle import Interactions
from trainables.evaluation import ranking
from trainables.evaluation.metrics import CUTOFFS, METRIC_NAMES, per_user_metrics
from trainables.evaluation.ranking import RankingEvaluator


def random_split(seed: int, num_users: int = 40, num_items: int = 90) -> tuple[Interactions, Interactions]:
    rng = np.random.default_rng(seed)
    cells = rng.permutation(num_users * num_items)[:700]
    users, items = cells // num_items, cells % num_items
    return Interactions(users[:500], items[:500]), Interactions(users[500:], items[500:])


@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_ir_measures(seed: int) -> None:
    train, judged = random_split(seed)
    scores = torch.from_numpy(np.random.default_rng(seed + 99).permutation(40 * 90).reshape(40, 90).astype(np.float64))
    ours = RankingEvaluator(train, judged, 90)(lambda users: scores[users].clone(), torch.device("cpu"))
    assert set(ours) == set(METRIC_NAMES)
    for name, expected in _with_ir_measures(train, judged, scores.numpy()).items():
        assert ours[name] == pytest.approx(expected, abs=1e-12), name


def _with_ir_measures(train: Interactions, judged: Interactions, scores: np.ndarray) -> dict[str, float]:
    known = set(train.users.tolist())
    seen = set(zip(train.users.tolist(), train.items.tolist(), strict=True))
    qrels = [
        ir_measures.Qrel(str(u), str(i), 1)
        for u, i in zip(judged.users.tolist(), judged.items.tolist(), strict=True)
        if u in known
    ]
    users = sorted({int(qrel.query_id) for qrel in qrels})
    run = [
        ir_measures.ScoredDoc(str(u), str(i), float(scores[u, i]))
        for u in users
        for i in range(scores.shape[1])
        if (u, i) not in seen
    ]
    positives = {str(u): sum(qrel.query_id == str(u) for qrel in qrels) for u in users}
    expected = {}
    for k in CUTOFFS:
        for name, measure in (("recall", R @ k), ("ndcg", nDCG @ k), ("precision", P @ k), ("map", AP @ k)):
            values = []
            for each in ir_measures.iter_calc([measure], qrels, run):
                # TREC's average precision divides by all positives, ours by those that can be in the list.
                rest = positives[each.query_id] / min(k, positives[each.query_id]) if name == "map" else 1
                values.append(each.value * rest)
            expected[f"{name}@{k}"] = float(np.mean(values))
    return expected


def test_training_items_are_never_ranked() -> None:
    train = Interactions(np.array([0, 0, 0]), np.array([0, 1, 2]))
    judged = Interactions(np.array([0]), np.array([3]))
    scores = torch.tensor([[9.0, 8.0, 7.0, 1.0, 0.0]])
    metrics = RankingEvaluator(train, judged, 5)(lambda users: scores[users].clone(), torch.device("cpu"))
    assert metrics["ndcg@5"] == 1.0


def test_users_without_training_rows_do_not_count() -> None:
    train = Interactions(np.array([0]), np.array([0]))
    judged = Interactions(np.array([0, 1]), np.array([1, 1]))
    evaluator = RankingEvaluator(train, judged, 60)
    assert evaluator.users.tolist() == [0]


def test_a_model_that_scores_all_items_alike_is_no_oracle() -> None:
    train, judged = random_split(5, num_users=60, num_items=400)
    metrics = RankingEvaluator(train, judged, 400)(lambda users: torch.zeros(len(users), 400), torch.device("cpu"))
    assert metrics["recall@20"] < 0.2


@pytest.mark.parametrize(("least", "size"), [(1, 7), (11, 11)])
def test_scoring_in_chunks_changes_nothing(least: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train, judged = random_split(1)
    scores = torch.rand(40, 90, generator=torch.Generator().manual_seed(3))
    whole = RankingEvaluator(train, judged, 90)(lambda users: scores[users].clone(), torch.device("cpu"))
    monkeypatch.setattr("trainables.evaluation.ranking.SCORES_AT_ONCE", 7 * 90)
    monkeypatch.setattr("trainables.evaluation.ranking.USERS_AT_LEAST", least)
    parts: list[int] = []

    def score(users: torch.Tensor) -> torch.Tensor:
        parts.append(len(users))
        return scores[users].clone()

    assert RankingEvaluator(train, judged, 90)(score, torch.device("cpu")) == whole
    assert len(parts) > 1 and max(parts) == size


def by_sorting(train: Interactions, judged: Interactions, scores: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics from whole sorted lists, of equal scores the item of the lower number first."""
    hits, counts = [], []
    for user in np.unique(judged.users[np.isin(judged.users, train.users)]):
        row = scores[user].astype(np.float64)
        row[train.items[train.users == user]] = -np.inf
        order = np.lexsort((np.arange(len(row)), -row))
        positives = judged.items[judged.users == user]
        hits.append(np.isin(order[:50], positives))
        counts.append(len(positives))
    return per_user_metrics(np.stack(hits), np.array(counts))


@pytest.mark.parametrize("values", [2, 7, 40, 10**6])
@pytest.mark.parametrize(("num_users", "num_items"), [(120, 9), (60, 15), (50, 64), (30, 333), (12, 1601)])
def test_ranks_are_those_of_whole_sorted_lists_however_many_scores_are_equal(
    num_users: int, num_items: int, values: int
) -> None:
    rng = np.random.default_rng([num_users, values])
    cells = rng.permutation(num_users * num_items)[: num_users * min(num_items, 14)]
    half = len(cells) // 2
    pairs = Interactions(cells // num_items, cells % num_items)
    train = Interactions(pairs.users[:half], pairs.items[:half])
    judged = Interactions(pairs.users[half:], pairs.items[half:])
    scores = rng.integers(values, size=(num_users, num_items)).astype(np.float32)
    evaluator = RankingEvaluator(train, judged, num_items)
    found = evaluator.per_user(lambda users: torch.from_numpy(scores)[users].clone(), torch.device("cpu"))
    for name, expected in by_sorting(train, judged, scores).items():
        assert np.array_equal(found[name], expected), name


def test_of_equal_scores_the_item_of_the_lower_number_comes_first() -> None:
    train = Interactions(np.arange(60), np.full(60, 59))
    judged = Interactions(np.arange(59), np.arange(59))
    evaluator = RankingEvaluator(train, judged, 60)
    found = evaluator.per_user(lambda users: torch.ones(len(users), 60), torch.device("cpu"))
    assert found["recall@50"].tolist() == [1.0] * 50 + [0.0] * 9
    assert found["recall@5"].tolist() == [1.0] * 5 + [0.0] * 54


def test_a_score_that_is_no_number_is_never_in_favour_of_a_positive() -> None:
    train, judged = Interactions(np.array([0, 1]), np.array([0, 0])), Interactions(np.array([0, 1]), np.array([1, 1]))
    scores = torch.zeros(2, 200)
    scores[0, 1] = torch.nan
    scores[1, 1], scores[1, 100:160] = 1.0, torch.nan
    found = RankingEvaluator(train, judged, 200).per_user(lambda users: scores[users].clone(), torch.device("cpu"))
    assert found["recall@50"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("better", "found"), [(49, 1.0), (50, 0.0)])
def test_the_coarse_look_lets_through_who_comes_fiftieth(better: int, found: float) -> None:
    train, judged = Interactions(np.array([0]), np.array([1599])), Interactions(np.array([0]), np.array([60]))
    scores = torch.zeros(1, 1600)
    scores[0, :better], scores[0, 60] = 2.0, 1.0  # every better item is the best of a group of its own
    evaluator = RankingEvaluator(train, judged, 1600)
    assert evaluator(lambda users: scores[users].clone(), torch.device("cpu"))["recall@50"] == found


def test_only_the_positives_that_a_coarse_look_leaves_are_ranked_item_by_item(monkeypatch: pytest.MonkeyPatch) -> None:
    train, judged = random_split(2, num_users=40, num_items=3000)
    looked_at = []
    exact = ranking._ranks

    def counted(scores: torch.Tensor, targets: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        looked_at.append(len(scores))
        return exact(scores, targets, items)

    monkeypatch.setattr(ranking, "_ranks", counted)
    scores = torch.rand(40, 3000, generator=torch.Generator().manual_seed(3))
    evaluator = RankingEvaluator(train, judged, 3000)
    evaluator(lambda users: scores[users].clone(), torch.device("cpu"))
    assert 0 < sum(looked_at) < evaluator.num_positives.sum() / 10


def test_a_sample_ranks_some_users_as_all_users_are_ranked() -> None:
    train, judged = random_split(2)
    scores = torch.rand(40, 90, generator=torch.Generator().manual_seed(4))
    whole = RankingEvaluator(train, judged, 90)
    every = whole.per_user(lambda users: scores[users].clone(), torch.device("cpu"))
    sample = whole.of_some(11, np.random.default_rng(0))
    found = sample.per_user(lambda users: scores[users].clone(), torch.device("cpu"))
    assert len(sample.users) == 11 and np.all(np.diff(sample.users) > 0)
    places = np.searchsorted(whole.users, sample.users)
    assert whole.users[places].tolist() == sample.users.tolist()
    assert all(np.array_equal(found[name], values[places]) for name, values in every.items())
    again = whole.per_user(lambda users: scores[users].clone(), torch.device("cpu"))
    assert all(np.array_equal(again[name], values) for name, values in every.items())


def test_samples_are_drawn_at_random_and_smaller_ones_are_part_of_larger_ones() -> None:
    whole = RankingEvaluator(*random_split(3), 90)
    drawn = [set(whole.of_some(12, np.random.default_rng(seed)).users) for seed in range(300)]
    counts = np.array([sum(user in users for users in drawn) for user in whole.users])
    expected = 300 * 12 / len(whole.users)
    assert abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert set(whole.of_some(5, np.random.default_rng(1)).users) < drawn[1]
