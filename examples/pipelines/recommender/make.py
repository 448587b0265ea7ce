#!/usr/bin/env python3
"""Makes people who watch films, learns their tastes, and writes the models and the rows of features.

`python make.py FOLDER`. The data are made up, with a fixed seed; what is learned is measured on the films
that people watched last, which the model never saw.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import graphs

USERS, WATCHED, SEEN, FACTORS, BEST = 1_000, 25, 20, 16, 5
GENRES = ["adventure", "comedy", "crime", "documentary", "fantasy", "horror", "romance", "science fiction", "thriller", "western"]
QUALITIES = ["Amber", "Blue", "Broken", "Distant", "Golden", "Hidden", "Last", "Lost", "Midnight", "Paper",
             "Quiet", "Secret", "Silent", "Slow", "Sunken", "Velvet", "Wild", "Winter"]
THINGS = ["Bridge", "Clock", "Door", "Engine", "Falcon", "Garden", "Harbour", "Island", "Key", "Lantern",
          "Letter", "Mirror", "Mountain", "Ocean", "Piano", "River", "Road", "Shadow", "Song", "Tower"]
FILMS = len(QUALITIES) * len(THINGS)


def watched(random: np.random.Generator, genres: np.ndarray) -> np.ndarray:
    """What each user has watched, in the order of watching: popular films, and films of the genres they like."""
    popularity = -0.7 * np.log(1 + random.permutation(FILMS))
    liking = random.dirichlet(np.full(len(GENRES), 0.15), size=USERS)
    chance = popularity + np.log(liking + 1e-3)[:, genres]
    wish = chance + random.gumbel(size=(USERS, FILMS))
    return random.permuted(np.argsort(-wish, axis=1)[:, :WATCHED], axis=1)


def factorize(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A vector for each user and each film, so that their product is high for what a user would like.

    PureSVD (Cremonesi, Koren and Turrin, 2010); what many have watched counts less.
    """
    matrix = np.zeros((USERS, FILMS))
    np.put_along_axis(matrix, seen, 1, axis=1)
    weights = np.maximum(matrix.sum(axis=0), 1) ** 0.25
    _, _, directions = np.linalg.svd(matrix / weights, full_matrices=False)
    directions = directions[:FACTORS]
    return (matrix / weights @ directions.T).astype("<f4"), (directions * weights).astype("<f4")


def best_of(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    scores = scores.copy()
    np.put_along_axis(scores, seen, -np.inf, axis=1)
    return np.argsort(-scores, axis=1)[:, :BEST]


def share_watched(best: np.ndarray, later: np.ndarray) -> float:
    return float(np.mean([np.isin(mine, watched).mean() for mine, watched in zip(best, later, strict=True)]))


def write_models(folder: Path, films: np.ndarray, titles: list[str]) -> None:
    graphs.write(
        folder / "scores" / "model.onnx",
        [
            ("MatMul", ["taste", "films"], ["liked"]),
            ("Shape", ["seen"], ["seen_shape"]),
            ("Expand", ["never", "seen_shape"], ["nevers"]),
            ("ScatterElements", ["liked", "seen", "nevers"], ["scores"], {"axis": 1}),
        ],
        [("taste", "float", ["users", FACTORS]), ("seen", "int64", ["users", SEEN])],
        [("scores", "float", ["users", FILMS])],
        {"films": films, "never": np.float32(-1e9)},
    )
    graphs.write(
        folder / "titles" / "model.onnx",
        [("Gather", ["all_titles", "films"], ["title"])],
        [("films", "int64", ["users", BEST])],
        [("title", "string", ["users", BEST])],
        {"all_titles": np.array(titles, object)},
    )


def write_rows(path: Path, users: np.ndarray, seen: np.ndarray, popular: np.ndarray) -> None:
    """What a job would write into Redis each night."""
    rows = [{"key": "popular:all", "fields": {"films": json.dumps(popular.tolist())}}]
    for user, (taste, had) in enumerate(zip(users, seen, strict=True)):
        packed = {"base64": base64.b64encode(taste.tobytes()).decode()}
        rows.append({"key": f"user:{user}", "fields": {"taste": packed, "seen": json.dumps(had.tolist())}})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    folder = Path(sys.argv[1])
    random = np.random.default_rng(17)
    genres = random.integers(len(GENRES), size=FILMS)
    names = [f"The {quality} {thing}" for quality in QUALITIES for thing in THINGS]
    titles = [f"{name} ({GENRES[genre]})" for name, genre in zip(names, genres, strict=True)]
    history = watched(random, genres)
    seen, later = history[:, :SEEN], history[:, SEEN:]
    users, films = factorize(seen)
    counts = np.bincount(seen.ravel(), minlength=FILMS)
    write_models(folder, films, titles)
    write_rows(folder / "features.jsonl", users, seen, np.argsort(-counts, kind="stable")[:BEST])
    learned = share_watched(best_of(users @ films, seen), later)
    popular = share_watched(best_of(np.tile(counts.astype(float), (USERS, 1)), seen), later)
    print(f"{USERS:,} users, {FILMS} films; of five recommended, {learned:.3f} were watched next; of what is popular, {popular:.3f}")


if __name__ == "__main__":
    main()
