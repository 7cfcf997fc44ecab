"""Milvus Lite, a server and Zilliz Cloud behind one class; the lexical index beside the embedded database."""
