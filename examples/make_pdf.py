"""Write `knowledge/glossary.pdf`, the PDF of the example knowledge base.

    pip install fpdf2==2.8.9
    python examples/make_pdf.py

The same input gives the same bytes: the date inside the file is fixed.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fpdf import FPDF

TITLE = "Glossary of vector search and RAG"
WRITTEN = datetime(2026, 11, 23, tzinfo=UTC)
TARGET = Path(__file__).parent / "knowledge" / "glossary.pdf"

INTRODUCTION = (
    "Short definitions of the words used in the pages of this knowledge base. "
    "Each entry says what the word means and, where there is one, a number worth remembering."
)

SECTIONS: dict[str, dict[str, str]] = {
    "Data in Milvus": {
        "Alias": "A second name of a collection that can be moved to another one. Programs that read through an alias "
        "do not notice when the collection behind it is exchanged.",
        "Binlog": "A binary log file in object storage that holds a part of one column of a segment. Insertions and "
        "deletions have files of their own.",
        "Bitset": "One bit a row that says whether the row passed a filter or was deleted. A vector search skips the "
        "rows that the bitset excludes.",
        "Collection": "A set of rows with one schema; what a table is in a relational database.",
        "Entity": "One row of a collection, identified by its primary key.",
        "Partition": "A physical part of a collection that can be searched and loaded alone.",
        "Segment": "The unit in which a collection is stored, indexed and moved between nodes. It is growing while it "
        "takes rows, and sealed afterwards.",
        "Shard": "A channel of the log to which rows are assigned by the hash of their key. Shards spread writing; "
        "a collection may have 16 of them.",
        "TSO": "The timestamp oracle, which gives every write a place in one global order.",
        "vchannel": "A virtual channel: the log of one shard. Several of them may share one physical channel, called "
        "pchannel. A cluster starts with 256 physical channels by default.",
    },
    "Indexes": {
        "ANN": "Approximate nearest neighbour search. It examines a part of the vectors and may miss some of the true "
        "neighbours; the share that it finds is its recall.",
        "Centroid": "The centre of a cluster of vectors in an IVF index.",
        "efConstruction": "How widely an HNSW index searches for neighbours while it is built.",
        "HNSW": "Hierarchical navigable small world: a graph of neighbours in several layers.",
        "Knowhere": "The library inside Milvus that builds and searches vector indexes.",
        "nprobe": "The number of clusters that an IVF search examines; 8 unless set.",
        "Product quantization": "A compression that cuts a vector into parts and stores for each part the number of "
        "the closest centre.",
        "Scalar quantization": "A compression that stores each number of a vector in one byte instead of four.",
        "Vamana": "The graph on which the DISKANN index is based. Its nodes have a maximum degree of 56 by default.",
    },
    "Retrieval": {
        "BM25": "A score for the match between a query and a text, from the frequency of the words, their rarity, and "
        "the length of the text.",
        "Bi-encoder": "A model that embeds question and passage separately, so that passages can be embedded in "
        "advance.",
        "Chunk": "A passage of a document that is embedded, found and cited as one unit.",
        "Cross-encoder": "A model that reads question and passage together and returns one score. It is used to rerank "
        "some dozens of candidates.",
        "Dense vector": "A vector in which almost all numbers differ from zero; the usual embedding.",
        "Hybrid search": "A dense and a lexical search for the same question, merged into one list.",
        "IDF": "Inverse document frequency: the fewer texts contain a word, the more the word counts.",
        "Lexical search": "Search by words, as opposed to search by meaning.",
        "Matryoshka embedding": "An embedding whose first numbers carry most of the meaning, so that it may be cut.",
        "n-gram": "A run of n characters. Comparing 4-grams instead of words forgives typing errors.",
        "Reciprocal rank fusion": "Merging lists by adding 1 / (k + rank) for each list; k is usually 60.",
        "Stemming": "Reducing words to a common form, so that searches and searching meet.",
    },
    "Answers": {
        "Abstention": "Declining to answer because the documents hold no evidence.",
        "Citation": "A marker in an answer that leads to the passage a claim was taken from.",
        "Context window": "The number of tokens that a model can read and write in one request.",
        "Extractive answer": "An answer made of sentences of the documents, without a language model.",
        "Gold answer": "The expected words against which an answer is compared in an evaluation.",
        "Grounding": "Tying each claim of an answer to a source.",
        "Hallucination": "A statement that sounds right and is supported by nothing.",
        "Indirect prompt injection": "Instructions hidden in a document, meant for the model that will read it.",
        "Token": "The unit in which models read text; in English about four characters.",
    },
    "Numbers worth remembering": {
        "19530": "The port of the Milvus API.",
        "9091": "The port of its health check and metrics.",
        "16,384": "The largest number of results of one search.",
        "65,535": "The largest length of a VARCHAR value, in bytes.",
        "32,768": "The largest number of dimensions of a dense vector.",
        "1024": "Rows below which a segment is searched without an index, by default.",
        "512 MB": "The maximum size of a segment in the documentation of version 2.4.",
        "5 seconds": "How old data may be under bounded consistency, by default.",
    },
}


def write(target: Path) -> int:
    """Write the glossary to `target` and return its number of pages."""
    from fpdf import FPDF

    class Page(FPDF):
        def footer(self) -> None:
            self.set_y(-15)
            self.set_font("Helvetica", size=8)
            self.cell(0, 10, f"Page {self.page_no()} of {{nb}}", align="C")

    pdf = Page(format="A4")
    pdf.set_title(TITLE)
    pdf.set_creation_date(WRITTEN)
    pdf.set_auto_page_break(True, margin=20)
    pdf.add_page()
    heading(pdf, TITLE, 18)
    paragraph(pdf, INTRODUCTION)
    for section, entries in SECTIONS.items():
        heading(pdf, section, 13)
        for term, definition in entries.items():
            paragraph(pdf, f"**{term}.** {definition}")
    pdf.output(str(target))
    return int(pdf.page_no())


def heading(pdf: FPDF, text: str, size: int) -> None:
    """Set `text` as a bold line of `size` points."""
    pdf.ln(3)
    pdf.set_font("Helvetica", style="B", size=size)
    pdf.multi_cell(0, size * 0.5, text, align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1.5)


def paragraph(pdf: FPDF, text: str) -> None:
    """Set `text` as a paragraph; `**` marks bold words."""
    pdf.set_font("Helvetica", size=10)
    pdf.multi_cell(0, 5, text, align="L", markdown=True, new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1)


if __name__ == "__main__":
    try:
        pages = write(TARGET)
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name!r} is not installed; run: pip install fpdf2==2.8.9")
    print(f"{TARGET}: {pages} pages, {TARGET.stat().st_size:,} bytes")
