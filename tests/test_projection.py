"""The map: the projection's laws, the parts of a collection, and what the two routes give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.stored import BIRDS, knowledge_base, write

from citekite.retrieve import collection_map
from citekite.retrieve.collection_map import draw
from citekite.retrieve.parts import MOST_PARTS, parts_of
from citekite.retrieve.projection import project
from citekite.serve.app import create_app
from citekite.serve.maps import Maps
from citekite.serve.principal import OWNER, Principal
from citekite.settings import Settings

NAMES = st.text("abc/", min_size=1, max_size=12).map(lambda text: f"/{text.strip('/') or 'x'}")


def clouds(parts: int, each: int = 30, dimension: int = 24, seed: int = 0) -> tuple[Any, list[int]]:
    """Vectors in as many clouds, which lie apart in a few dimensions and differ more in others."""
    chance = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(parts), each)
    noise = chance.normal(size=(len(numbers), dimension))
    noise[:, -4:] *= 6  # what the chunks of every part differ in most
    return noise + chance.normal(size=(parts, dimension))[numbers] * 3 * (np.arange(dimension) < 8), numbers.tolist()


def agreement(points: Any, parts: list[int]) -> float:
    """The share of nearest neighbours that are of the same part."""
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    return float((np.asarray(parts)[distances.argmin(axis=1)] == np.asarray(parts)).mean())


def test_the_same_vectors_give_the_same_projection() -> None:
    vectors, parts = clouds(4)

    one, other = project(vectors, parts), project(vectors.copy(), list(parts))

    assert np.array_equal(one.axes, other.axes)
    assert one.explained == other.explained


def test_parts_lie_further_apart_than_in_the_leading_components() -> None:
    vectors, parts = clouds(5)
    centred = vectors - vectors.mean(axis=0)
    components = np.linalg.svd(centred, full_matrices=False)[2][:2].T

    assert agreement(project(vectors, parts).place(vectors), parts) > agreement(centred @ components, parts) + 0.2


@pytest.mark.parametrize("factor", [0.001, 1000.0])
def test_a_rotation_shift_and_scale_of_the_vectors_leave_the_picture(factor: float) -> None:
    vectors, parts = clouds(4)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(24, 24)))[0]
    turned = (vectors @ turn) * factor + 5

    assert np.allclose(project(turned, parts).place(turned), project(vectors, parts).place(vectors), atol=1e-3)


def test_a_question_is_placed_by_the_matrix_that_placed_the_chunks() -> None:
    vectors, parts = clouds(3)
    projection = project(vectors, parts)

    assert np.allclose(projection.place(vectors[7:9]), projection.place(vectors)[7:9])
    assert np.allclose(projection.place(vectors[:2].mean(axis=0)), projection.place(vectors[:2]).mean(axis=0))


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 4), st.integers(0, 9))
def test_points_are_finite_and_within_the_map_whatever_there_is(n: int, dimension: int, parts: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).integers(-2, 3, size=(n, dimension)).astype(np.float32)

    projection = project(vectors, [row % parts for row in range(n)])

    assert projection.place(vectors).shape == (n, 2)
    assert np.abs(projection.place(vectors)).max() <= 1 + 1e-9
    assert 0 <= projection.explained <= 1 + 1e-9


def test_in_two_dimensions_all_of_the_variance_is_shown() -> None:
    assert project([[0, 0], [3, 1], [1, 5]], [0, 1, 2]).explained == pytest.approx(1)


@given(st.dictionaries(NAMES, st.integers(1, 50), max_size=20))
def test_every_document_is_in_exactly_one_part(weights: dict[str, int]) -> None:
    parts = parts_of(weights)

    assert sorted(source for part in parts for source in part.sources) == sorted(weights)
    assert all(source.startswith(part.path) for part in parts for source in part.sources)


def test_few_documents_are_parts_by_themselves_and_many_are_put_together_by_folder() -> None:
    few = parts_of({"/docs/a.md": 1, "/docs/b/c.md": 5})
    many = parts_of({f"/docs/{folder}/{name}.md": 1 for folder in "abc" for name in range(9)})
    sites = parts_of({"https://a.org/x": 1, "upload://shared/y.md": 1, "/docs/z.md": 1})

    assert [part.path for part in few] == ["/docs/b/c.md", "/docs/a.md"]
    assert [part.path for part in many] == ["/docs/a/", "/docs/b/", "/docs/c/"]
    assert len(sites) == 3


def test_the_heaviest_folder_is_opened_while_there_are_few_enough() -> None:
    weights = {f"/docs/{folder}/{inner}/{name}.md": 1 for folder in "ab" for inner in "xyz" for name in range(3)}
    weights |= {f"/docs/a/x/more{name}.md": 1 for name in range(20)}

    paths = [part.path for part in parts_of(weights)]

    assert len(paths) <= MOST_PARTS
    assert {"/docs/a/x/", "/docs/a/y/", "/docs/a/z/"} <= set(paths)


def test_a_folder_that_holds_nearly_all_is_opened_however_much_lies_in_it() -> None:
    weights = {f"/srv/docs/{folder}/{name}.md": 3 for folder in "abcdefghijk" for name in range(2)}

    paths = [part.path for part in parts_of({**weights, "upload://shared/note.md": 1})]

    assert {f"/srv/docs/{folder}/" for folder in "abcdefghijk"} | {"upload://shared/note.md"} == set(paths)


def test_a_part_is_named_after_the_folder_that_all_of_it_lies_in() -> None:
    paths = [part.path for part in parts_of({"/srv/a/b/1.md": 1, "/srv/a/b/2.md": 1, "https://a.org/docs/x": 18})]

    assert paths == ["https://a.org/docs/x", "/srv/a/b/"]


def _client(uri: Path) -> TestClient:
    app = create_app(Settings(uri=str(uri), embedder="static"))
    return TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    folder = tmp_path_factory.mktemp("map")
    docs = write(folder / "docs", BIRDS)
    with knowledge_base(folder / "kb.db") as kb:
        kb.sync(docs)
    with _client(folder / "kb.db") as client:
        yield client, docs


def test_the_map_has_a_point_for_each_chunk_and_each_document_with_its_part(served: tuple[TestClient, Path]) -> None:
    found = served[0].get("/api/v1/map").json()

    assert {point["heading"] for point in found["points"]} >= {"Red kite", "Black kite", "Barn owl", "Golden eagle"}
    assert sum(source["chunks"] for source in found["sources"]) == found["chunks"] == len(found["points"])
    assert {point["document_id"] for point in found["points"]} == {one["document_id"] for one in found["sources"]}
    assert sorted(part["name"] for part in found["parts"]) == ["Eagles", "Kites", "Owls"]
    assert {found["parts"][source["part"]]["name"] for source in found["sources"]} == {"Eagles", "Kites", "Owls"}
    assert 0 < found["explained"] <= 1


def test_a_question_lies_on_the_map_with_its_hits(served: tuple[TestClient, Path]) -> None:
    drawn = {point["id"]: point for point in served[0].get("/api/v1/map").json()["points"]}

    found = served[0].post("/api/v1/map/locate", json={"question": "what hunts at night?", "k": 2}).json()

    assert found["hits"][0]["headings"][-1] == "Barn owl"
    assert [{"x": drawn[hit["id"]]["x"], "y": drawn[hit["id"]]["y"]} for hit in found["hits"]] == found["points"]
    assert isinstance(found["x"], float)


def test_a_blank_question_is_refused(served: tuple[TestClient, Path]) -> None:
    assert served[0].post("/api/v1/map/locate", json={"question": "  "}).status_code == 400


def test_the_map_is_drawn_once_for_each_content(served: tuple[TestClient, Path]) -> None:
    client, docs = served
    service = client.app.state.service  # type: ignore[attr-defined]
    kb = service.knowledge_base(OWNER)
    one, other = (service.maps.of(kb, OWNER) for _ in range(2))
    write(docs, {"new.md": "# Herons\n\nThe heron stands still.\n"})
    kb.sync(docs)
    after = service.maps.of(kb, OWNER)

    assert one is other
    assert len(after.points) == len(one.points) + 1


def test_a_reader_of_some_groups_gets_a_map_of_what_they_may_see(tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "kb.db") as kb:
        kb.sync(write(tmp_path / "docs", BIRDS))
        kb.restricted_to({"sales"}).sync(write(tmp_path / "sales", {"prices.md": "# Prices\n\nA secret price.\n"}))
        maps = Maps()
        seen = {
            groups: maps.of(kb.restricted_to({groups}), Principal(groups, "read", groups=frozenset({groups})))
            for groups in ("sales", "legal")
        }
        whole = maps.of(kb, OWNER)

    assert {source.title for source in whole.sources} - {source.title for source in seen["legal"].sources} == {"Prices"}
    assert [point.title for point in seen["sales"].points].count("Prices") == 1
    assert "Prices" not in {point.title for point in seen["legal"].points} | {part.name for part in seen["legal"].parts}


def test_a_map_of_what_cannot_be_found_says_so(tmp_path: Path) -> None:
    with _client(tmp_path / "none.db") as client:
        assert client.get("/api/v1/map").json()["title"] == "UnknownCollection"


def test_one_and_no_chunk_make_a_map(tmp_path: Path) -> None:
    docs = write(tmp_path / "docs", {"one.md": "# One\n\nA single chunk.\n"})
    with knowledge_base(tmp_path / "kb.db") as kb:
        kb.sync(docs)
        one = draw(kb.collection())
        kb.remove(docs)
        none = draw(kb.collection())

    assert [(point.x, point.y) for point in one.points] == [(0, 0)]
    assert (none.points, none.parts, none.chunks) == ((), (), 0)
    assert none.place(np.zeros((1, 256))) == [(0, 0)]


def test_of_many_chunks_the_same_ones_are_drawn_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"{n}.md": f"# T{n}\n\n" + "\n".join(f"## H{h}\n\nText {n} {h}.\n" for h in range(9)) for n in range(9)}
    with knowledge_base(tmp_path / "kb.db") as kb:
        kb.sync(write(tmp_path / "docs", many))
        whole = {point.id for point in draw(kb.collection()).points}
        monkeypatch.setattr(collection_map, "MOST_POINTS", 40)
        monkeypatch.setattr(collection_map, "_DOCUMENTS_AT_ONCE", 4)
        one, other = draw(kb.collection()), draw(kb.collection())

    assert one.points == other.points
    assert len(one.points) == 40
    assert {point.id for point in one.points} < whole
    assert one.chunks == len(whole)
    assert len({point.document_id for point in one.points}) == 9
