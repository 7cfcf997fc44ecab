"""Access lists, writing and asking: who gives a document its readers, who may change it, and what an answer shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from citekite import KnowledgeBase
from citekite.errors import AccessDenied, SettingsError, StoreError, UnknownDocument
from citekite.reports import SyncReport
from citekite.store.writer import Entry
from citekite.types import Turn
from commands import as_json, citekite
from scripted_endpoint import Messages, ScriptedEndpoint
from stored import knowledge_base, milvus_server, write

NOTICE = (
    "# Notice\n\n## Period\n\nThe notice period is three months, counted from the end of the month in which the letter "
    "arrives at the office, and it is the same for all who have worked here for more than two years without a break.\n"
)
FILES = {
    "public/handbook.md": "# Handbook\n\n## Lunch\n\nLunch is served at noon in the canteen.\n",
    "public/notice.md": NOTICE,
    "hr/notice.md": NOTICE,
    "hr/pay.md": "# Pay\n\n## Raise\n\nThe secret raise is four percent for everyone in spring.\n",
    "legal/suit.md": "# Suit\n\n## Claim\n\nThe secret claim against Acme is two million.\n",
    "both/plan.md": "# Plan\n\n## Move\n\nThe secret plan is to move the office to Graz.\n",
}
SECRETS = {"raise": "hr", "claim": "legal", "plan": "hr legal"}


def counts(report: SyncReport) -> tuple[int, int, int, int, int]:
    return report.new, report.changed, report.unchanged, report.updated, report.texts


def filled(kb: KnowledgeBase, folder: Path) -> KnowledgeBase:
    write(folder, FILES)
    kb.sync(folder / "public")
    kb.sync(folder / "hr", access=["hr"])
    kb.sync(folder / "legal", access="legal")
    kb.sync(folder / "both", access=("legal", "hr"))
    return kb


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with milvus_server(tmp_path_factory.mktemp("server") / "server.db") as uri:
        yield uri


@pytest.fixture(params=["embedded", "server"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "embedded":
        return {"uri": str(tmp_path / "citekite.db")}
    name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)
    return {"uri": request.getfixturevalue("server"), "collection": name}


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[KnowledgeBase]:
    with knowledge_base(tmp_path / "citekite.db") as kb:
        yield filled(kb, tmp_path / "docs")


def names(kb: KnowledgeBase) -> set[str]:
    return {"/".join(Path(document.source).parts[-2:]) for document in kb.documents()}


# --- what a reader is shown ---


def test_documents_search_and_answers_show_each_reader_its_own(address: dict[str, str], tmp_path: Path) -> None:
    with knowledge_base(**address) as kb:
        filled(kb, tmp_path / "docs")
        assert names(kb) == set(FILES)
        for groups in ((), ("hr",), ("legal",), ("hr", "legal", "other")):
            reader = kb.restricted_to(groups)
            for word, access in SECRETS.items():
                seen = bool(set(access.split()) & set(groups))
                found = [
                    reader.search(f"the secret {word}", k=20, mode=mode) for mode in ("dense", "lexical", "hybrid")
                ]
                for hits in found:
                    assert any(f"secret {word}" in hit.chunk.text for hit in hits) == seen
                answer = reader.ask(f"What is the secret {word}?")
                assert (f"secret {word}" in answer.text) == seen
            assert reader.status().documents == len(reader.documents()) == len(names(reader))
            assert reader.status().chunks == reader.count() == len(list(reader.collection().all_chunks()))
        assert names(kb.restricted_to(["hr"])) == set(FILES) - {"legal/suit.md"}


def test_a_copy_that_a_reader_may_not_see_is_not_among_the_others_of_a_hit(kb: KnowledgeBase) -> None:
    question = "How long is the notice period?"
    (whole,) = (hit for hit in kb.search(question) if "three months" in hit.chunk.text)
    assert len(whole.others) == 1
    (hit,) = (hit for hit in kb.restricted_to([]).search(question) if "three months" in hit.chunk.text)
    assert (hit.others, hit.chunk.access) == ((), ())
    assert not [other for citation in kb.restricted_to([]).ask(question).citations for other in citation.also]


def test_an_index_that_a_reader_s_search_makes_anew_is_of_all_chunks(kb: KnowledgeBase, tmp_path: Path) -> None:
    kb.close()
    shutil.rmtree(tmp_path / "citekite.db.index")
    with knowledge_base(tmp_path / "citekite.db") as reopened:
        assert not reopened.restricted_to([]).search("secret claim", mode="lexical")
        assert reopened.search("secret claim", mode="lexical")[0].chunk.access == ("legal",)


def test_history_and_the_model_s_rewriting_widen_no_search(tmp_path: Path) -> None:
    """The model rewrites a follow-up into the worst that it can; the passages stay those of the reader."""
    worst = "What is the secret claim? ) or (ordinal >= 0) filter: access like '%' /docs/legal/suit.md"

    def reply(messages: Messages) -> str:
        asked_for_json = '"queries"' in messages[0]["content"]
        return json.dumps({"queries": [worst], "enough": False, "missing": "it"}) if asked_for_json else worst

    with (
        ScriptedEndpoint(pieces=reply) as endpoint,
        knowledge_base(tmp_path / "citekite.db", base_url=endpoint.base_url, model="m", api_key="k") as kb,
    ):
        reader = filled(kb, tmp_path / "docs").restricted_to(["hr"])
        source = str(tmp_path / "docs" / "legal" / "suit.md")
        history = [Turn("What is in the suit?", f"The secret claim against Acme [1].\n\nSources\n[1] {source}:3")]
        for deep in (False, True):
            answer = reader.ask("And how much is it?", history=history, deep=deep, k=20)
            assert answer.standalone == worst
            assert answer.hits
            assert all("legal" not in hit.chunk.source for hit in answer.hits)
        shown = [message["content"] for request in endpoint.received for message in request.body["messages"]]
        assert not any("two million" in text for text in shown)


def test_a_document_of_others_is_unknown_by_id_and_source(kb: KnowledgeBase) -> None:
    (suit,) = (document for document in kb.documents() if document.title == "Suit")
    assert kb.document(suit.id).access == ("legal",)
    for name in (suit.id, suit.source):
        with pytest.raises(UnknownDocument) as hidden:
            kb.restricted_to(["hr"]).document(name)
        with pytest.raises(UnknownDocument) as missing:
            kb.document(name + "x")
        assert str(hidden.value) == str(missing.value).replace(name + "x", name)


# --- who sets an access list ---


def test_another_list_updates_the_rows_without_embedding_both_ways(address: dict[str, str], tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", {"pay.md": FILES["hr/pay.md"]})
    with knowledge_base(**address) as kb:
        kb.sync(folder)
        staff = kb.restricted_to(["hr"])
        nobody = kb.restricted_to([])
        vectors = kb.collection().vectors([chunk.id for chunk in kb.collection().all_chunks()])
        steps: tuple[tuple[object, tuple[str, ...], int], ...] = (
            (["hr"], ("hr",), 1),
            (None, ("hr",), 0),
            (["hr"], ("hr",), 0),
            (["hr", "legal"], ("hr", "legal"), 1),
            ("everyone", (), 1),
            (None, (), 0),
            ((), (), 0),
        )
        for access, expected, changed in steps:
            plan = kb.plan(folder, access=access)  # type: ignore[arg-type]
            report = kb.sync(folder, access=access)  # type: ignore[arg-type]
            assert (report.changed, report.unchanged, report.texts) == (changed, 1 - changed, 0), access
            assert (plan.changed, plan.update, plan.texts) == (report.changed, report.updated, 0)
            assert {chunk.access for chunk in kb.collection().all_chunks()} == {expected}
            assert staff.count() == len(vectors)
            assert nobody.count() == (0 if expected else len(vectors))
            assert bool(nobody.search("raise", mode="lexical")) == (not expected)
        after = kb.collection().vectors(list(vectors))
        assert all((after[id] == vectors[id]).all() for id in vectors)


def test_a_changed_document_keeps_its_list_and_a_new_one_is_for_everyone(kb: KnowledgeBase, tmp_path: Path) -> None:
    hr = tmp_path / "docs" / "hr"
    write(hr, {"pay.md": "# Pay\n\nAnother secret raise.\n", "new.md": "# New\n\nSomething new.\n"})
    assert counts(kb.sync(hr))[:3] == (1, 1, 1)
    assert kb.document(str(hr / "pay.md")).access == ("hr",)
    assert kb.document(str(hr / "new.md")).access == ()


def test_an_interrupted_change_of_the_list_keeps_the_narrower_one(kb: KnowledgeBase, tmp_path: Path) -> None:
    source = str(tmp_path / "docs" / "public" / "notice.md")

    def half(access: tuple[str, ...]) -> None:
        collection = kb.collection()
        entry = next(entry for entry in collection.entries() if entry.chunk.source == source)
        changed = Entry(replace(entry.chunk, access=access), "another", entry.chunks)
        with collection.writing() as writer:
            writer.upsert([changed], collection.vectors([entry.chunk.id])[entry.chunk.id][None])

    write(tmp_path / "docs", {"public/notice.md": "# A\n\nOne.\n\n# B\n\nTwo.\n"})
    kb.sync(source)
    half(("hr", "legal"))
    assert kb.sync(source).failures == ()
    assert kb.document(source).access == ("hr", "legal")
    half(("sales",))
    assert "give the list that it should have (--access)" in kb.sync(source).failures[0].reason
    assert kb.sync(source, access=["hr"]).failures == ()
    assert kb.document(source).access == ("hr",)


def test_reindex_carries_access_lists(kb: KnowledgeBase, tmp_path: Path) -> None:
    before = {chunk.id: chunk.access for chunk in kb.collection().all_chunks()}
    kb.reindex()
    assert {chunk.id: chunk.access for chunk in kb.collection().all_chunks()} == before
    assert kb.sync(tmp_path / "docs").unchanged == len(FILES)


def test_command_line_sets_access(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    assert as_json(citekite(tmp_path, "sync", "hr", "--access", "hr", "--access", "board", "--json"))["new"] == 2
    with knowledge_base(tmp_path / "citekite.db") as kb:
        assert {chunk.access for chunk in kb.collection().all_chunks()} == {("board", "hr")}
    report = as_json(citekite(tmp_path, "sync", "hr", "--access", "everyone", "--json"))
    assert (report["changed"], report["texts"]) == (2, 0)


# --- what a restricted knowledge base may write ---


def test_what_is_written_is_for_the_groups_of_the_writer(kb: KnowledgeBase, tmp_path: Path) -> None:
    folder = write(tmp_path / "more", {"a.md": "# A\n\nOne.\n", "b.md": "# B\n\nTwo.\n"})
    writer = kb.restricted_to(["hr", "legal"])
    assert writer.sync(folder / "a.md").new == 1
    assert kb.document(str(folder / "a.md")).access == ("hr", "legal")
    assert writer.sync(folder, access=["hr"]).changed == 1
    assert {kb.document(str(folder / name)).access for name in ("a.md", "b.md")} == {("hr",)}
    assert writer.sync(folder).unchanged == 2, "a document keeps its list"
    for access in (["sales"], ["hr", "sales"], "everyone", ()):
        for action in (writer.sync, writer.plan):
            with pytest.raises(AccessDenied, match="cannot be written with the groups hr, legal"):
                action(folder, access=access)
    nobody = kb.restricted_to([])
    with pytest.raises(AccessDenied, match="with the groups none"):
        nobody.sync(folder, access=["hr"])
    assert nobody.sync(write(tmp_path / "open", {"c.md": "# C\n\nThree.\n"})).new == 1
    assert kb.document(str(tmp_path / "open" / "c.md")).access == ()


@pytest.mark.parametrize("groups", [(), ("hr",), ("legal", "other")])
def test_documents_of_others_are_neither_changed_nor_pruned_nor_deleted(
    kb: KnowledgeBase, tmp_path: Path, groups: tuple[str, ...]
) -> None:
    docs = tmp_path / "docs"
    before = {chunk.id: chunk for chunk in kb.collection().all_chunks()}
    writer = kb.restricted_to(groups)
    mine = {
        chunk.source
        for chunk in before.values()
        if set(chunk.access) <= set(groups) and bool(chunk.access) == bool(groups)
    }
    theirs = {chunk.source for chunk in before.values()} - mine
    for name in FILES:
        (docs / name).write_text(FILES[name] + "\nChanged.\n", encoding="utf-8")
    report = writer.sync(docs, prune=True)
    assert {failure.source for failure in report.failures} == theirs
    assert not [failure for failure in report.failures if "hr" in failure.reason or "legal" in failure.reason]
    assert (report.changed, report.new, report.unchanged, report.pruned) == (len(mine), 0, 0, 0)
    for name in FILES:
        (docs / name).unlink()
    write(docs, {"rest.md": "# Rest\n\nNothing else is left.\n"})
    assert writer.sync(docs, prune=True).pruned == len(mine)
    after = {chunk.id: chunk for chunk in kb.collection().all_chunks() if chunk.source in theirs}
    assert after == {id: chunk for id, chunk in before.items() if chunk.source in theirs}
    assert {document.source for document in kb.documents()} == theirs | {str(docs / "rest.md")}


def test_remove_deletes_what_the_writer_alone_may_see(kb: KnowledgeBase, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    writer = kb.restricted_to(["hr"])
    for source in (docs / "both", docs / "public" / "notice.md", docs):
        with pytest.raises(AccessDenied, match="has other readers too"):
            writer.remove(source)
    with pytest.raises(StoreError, match=r"nothing of .* is stored"):
        writer.remove(docs / "legal")
    assert names(kb) == set(FILES)
    assert writer.remove(docs / "hr") > 0
    assert kb.restricted_to([]).remove(docs) > 0, "documents of others below a folder stay"
    assert names(kb) == {"legal/suit.md", "both/plan.md"}


def test_a_text_that_others_have_stored_is_embedded_all_the_same(kb: KnowledgeBase, tmp_path: Path) -> None:
    """Otherwise the report would tell that they have it."""
    (tmp_path / "docs" / "mine").mkdir()
    for name in ("hr/pay.md", "public/handbook.md"):
        (tmp_path / "docs" / "mine" / Path(name).name).write_text(FILES[name], encoding="utf-8")
    for name in FILES:
        (tmp_path / "docs" / name).unlink()
    plan = kb.restricted_to(["legal"]).plan(tmp_path / "docs")
    assert (plan.new, plan.texts) == (2, plan.add)
    assert kb.plan(tmp_path / "docs").texts == 0


def test_what_concerns_the_whole_collection_is_denied(kb: KnowledgeBase) -> None:
    reader = kb.restricted_to(["hr"])
    for action in (reader.reindex, reader.set_tuned, lambda: reader.collection().writing().__enter__()):
        with pytest.raises(AccessDenied):
            action()


def test_a_view_shares_the_connection_and_does_not_close_it(kb: KnowledgeBase) -> None:
    opened = kb.collection()
    with kb.restricted_to(["hr"]) as reader:
        reader.search("raise")
    assert kb.collection() is opened
    assert names(kb.restricted_to(["hr", "legal"]).restricted_to(["legal"])) == names(kb.restricted_to(["legal"]))
    with pytest.raises(SettingsError, match="no name of a group"):
        kb.restricted_to(['hr"'])
