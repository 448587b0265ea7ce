#!/usr/bin/env python3
"""Trains the recommendations model and writes the folder that is served: `python train.py FOLDER`.

The data are made up, with a fixed seed: a catalogue of 50,000 films, 2,000 people who each like a few
genres, and what they have watched. The model is real: the matrix of who watched what, factorized
(PureSVD: Cremonesi, Koren and Turrin, 2010), measured on what was held back, and exported as one ONNX
graph that goes from the id of a user to the best films with their titles.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from scipy import sparse
from scipy.sparse import linalg

USERS, ITEMS, WATCHED, HELD_BACK, FACTORS, BEST = 2_000, 50_000, 120, 20, 64, 10
MEASURED = 500  # users
GENRES = ["adventure", "animation", "biography", "comedy", "crime", "documentary", "drama", "family", "fantasy", "history",
          "horror", "music", "mystery", "romance", "science fiction", "sport", "thriller", "travel", "war", "western"]
QUALITIES = ["Amber", "Blue", "Borrowed", "Broken", "Burning", "Distant", "Endless", "Fearless", "Forgotten", "Golden", "Hidden", "Hollow", "Last",
             "Little", "Lonely", "Lost", "Midnight", "Paper", "Quiet", "Restless", "Second", "Secret", "Silent", "Slow",
             "Stolen", "Sunken", "Tender", "Velvet", "Wild", "Winter"]
THINGS = ["Bridge", "Carnival", "Clock", "Compass", "Dancer", "Door", "Engine", "Falcon", "Garden", "Guest", "Harbour", "House",
          "Island", "Journey", "Key", "Lantern", "Letter", "Lighthouse", "Mirror", "Mountain", "Ocean", "Orchard", "Piano",
          "Promise", "Railway", "River", "Road", "Season", "Shadow", "Song", "Stranger", "Summer", "Tailor", "Teacher",
          "Theatre", "Thief", "Tower", "Voyage", "Witness", "Year"]
PLACES = [f"of {name}" for name in ["Accra", "Athens", "Bergen", "Bogota", "Boston", "Cairo", "Chennai", "Cork", "Dakar", "Delhi",
          "Dublin", "Genoa", "Ghent", "Hanoi", "Havana", "Izmir", "Kyiv", "Kyoto", "Lagos", "Lima", "Lisbon", "London", "Lyon",
          "Malmo", "Manila", "Mumbai", "Naples", "Nairobi", "Oslo", "Paris", "Porto", "Prague", "Quito", "Riga", "Rome", "Seoul",
          "Sofia", "Split", "Tallinn", "Tbilisi", "Tokyo", "Tunis", "Turin", "Vienna", "Warsaw", "York", "Zagreb", "Zurich"]]


def catalogue(random: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Titles, and the genre of each film."""
    genres = random.integers(len(GENRES), size=ITEMS)
    names = random.choice(len(QUALITIES) * len(THINGS) * len(PLACES), size=ITEMS, replace=False)
    titles = []
    for name, genre in zip(names, genres, strict=True):
        quality, rest = divmod(int(name), len(THINGS) * len(PLACES))
        thing, place = divmod(rest, len(PLACES))
        titles.append(f"The {QUALITIES[quality]} {THINGS[thing]} {PLACES[place]} ({GENRES[genre]})")
    return titles, genres


def watched(random: np.random.Generator, genres: np.ndarray) -> np.ndarray:
    """What each user has watched, in the order of watching: popular films, and films of the genres they like."""
    popularity = -np.log(1 + random.permutation(ITEMS).astype(np.float32))
    all_watched = np.empty((USERS, WATCHED), np.int64)
    for user in range(USERS):
        liking = random.gamma(0.1, size=len(GENRES))
        chance = popularity + np.log(liking / liking.sum() + 1e-3).astype(np.float32)[genres]
        wish = chance - np.log(random.standard_exponential(ITEMS, dtype=np.float32) + 1e-30)
        best = np.argpartition(-wish, WATCHED)[:WATCHED]
        all_watched[user] = random.permutation(best)
    return all_watched


def factorize(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A vector for each user and each film, so that their product is high for what a user would like.

    What many have watched says little of a taste: its weight is lowered before, and restored afterwards.
    """
    rows = np.repeat(np.arange(USERS), seen.shape[1])
    matrix = sparse.csr_matrix((np.ones(seen.size, np.float32), (rows, seen.ravel())), shape=(USERS, ITEMS))
    weights = np.maximum(np.bincount(seen.ravel(), minlength=ITEMS), 1).astype(np.float32) ** 0.25
    matrix = (matrix @ sparse.diags(1 / weights)).tocsr()
    _, _, directions = linalg.svds(matrix, k=FACTORS, rng=np.random.default_rng(1))
    users, items = matrix @ directions.T, directions.T * weights[:, None]
    return np.ascontiguousarray(users, np.float32), np.ascontiguousarray(items, np.float32)


def best_of(users: np.ndarray, items: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best films of every user among those not seen, and their scores: what the graph must answer."""
    return top(users @ items.T, seen)


def top(scores: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The films with the highest scores among those not seen, the highest first."""
    np.put_along_axis(scores, seen, -np.inf, axis=1)
    best = np.argpartition(-scores, BEST, axis=1)[:, :BEST]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
    best = np.take_along_axis(best, order, axis=1)
    return best, np.take_along_axis(scores, best, axis=1)


def precision(best: np.ndarray, held_back: np.ndarray) -> float:
    """The share of recommendations among what the user has watched later."""
    hits = [len(np.intersect1d(mine, later)) for mine, later in zip(best, held_back, strict=True)]
    return float(np.mean(hits) / BEST)


def graph(users: np.ndarray, items: np.ndarray, seen: np.ndarray, titles: list[str]) -> onnx.ModelProto:
    """Id of a user → vector → scores of all films → those not seen → the best, with their titles."""
    constants = {
        "users": users, "items": np.ascontiguousarray(items.T), "seen": seen, "titles": np.array(titles, object),
        "nobody": np.array(0, np.int64), "count": np.array(USERS, np.int64),
        "never": np.array(-np.inf, np.float32), "best": np.array([BEST], np.int64),
    }
    nodes = [
        # A negative id would count from the end of the table: it is made one that the table does not have.
        ("Less", ["user", "nobody"], ["is_negative"], {}),
        ("Sub", ["user", "count"], ["far_off"], {}),
        ("Where", ["is_negative", "far_off", "user"], ["row"], {}),
        ("Gather", ["users", "row"], ["vector"], {"axis": 0}),
        ("MatMul", ["vector", "items"], ["liked"], {}),
        ("Gather", ["seen", "row"], ["seen_by_user"], {"axis": 0}),
        ("Shape", ["seen_by_user"], ["seen_shape"], {}),
        ("Expand", ["never", "seen_shape"], ["nevers"], {}),
        ("ScatterElements", ["liked", "seen_by_user", "nevers"], ["scores"], {"axis": 1}),
        ("TopK", ["scores", "best"], ["score", "item"], {"axis": 1}),
        ("Gather", ["titles", "item"], ["title"], {"axis": 0}),
    ]
    made = onnx.helper.make_graph(
        [helper.make_node(kind, inputs, outputs, name=outputs[0], **options) for kind, inputs, outputs, options in nodes],
        "recommendations",
        [helper.make_tensor_value_info("user", TensorProto.INT64, ["users"])],
        [
            helper.make_tensor_value_info("title", TensorProto.STRING, ["users", BEST]),
            helper.make_tensor_value_info("item", TensorProto.INT64, ["users", BEST]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["users", BEST]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def train() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str], dict[str, float]]:
    """Vectors, what was seen, titles, and how good it is beside recommending what is popular."""
    random = np.random.default_rng(17)
    titles, genres = catalogue(random)
    history = watched(random, genres)
    seen, held_back = history[:, :-HELD_BACK], history[:, -HELD_BACK:]
    users, items = factorize(seen)
    some = slice(MEASURED)
    counts = np.bincount(seen.ravel(), minlength=ITEMS).astype(np.float32)
    popular, _ = top(np.tile(counts, (MEASURED, 1)), seen[some])
    recommended, _ = best_of(users[some], items, seen[some])
    metrics = {
        "precision_at_10": precision(recommended, held_back[some]),
        "precision_at_10_of_popular": precision(popular, held_back[some]),
    }
    return users, items, seen, titles, metrics


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    users, items, seen, titles, metrics = train()
    onnx.save(graph(users, items, seen, titles), folder / "model.onnx")
    shutil.copy(Path(__file__).with_name("model.toml"), folder)
    with (folder / "model.toml").open("a") as settings:
        settings.write("\n[metrics]\n" + "".join(f"{name} = {value:.4f}\n" for name, value in metrics.items()))
    shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    print(f"{folder}: {len(users):,} users, {len(items):,} films; {shown}")


if __name__ == "__main__":
    main()
