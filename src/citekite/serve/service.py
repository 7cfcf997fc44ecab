"""What the routes share: settings, knowledge bases, workers, and the folder of the server."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from functools import cached_property
from pathlib import Path

from citekite.errors import CitekiteError
from citekite.explanation import ModelUse
from citekite.home import claim, home_of, make_home
from citekite.knowledge_base import KnowledgeBase
from citekite.serve import uploads
from citekite.serve.addresses import is_loopback
from citekite.serve.audit import Audit
from citekite.serve.jobs import Jobs
from citekite.serve.keys import KeyStore
from citekite.serve.ledger import Ledger
from citekite.serve.maps import Maps
from citekite.serve.metrics import Metrics
from citekite.serve.principal import OWNER, Principal
from citekite.serve.workers import Workers
from citekite.settings import Settings
from citekite.telemetry import make_telemetry

# Whether the database answers is asked beside the workers: a server with all of them at work is still ready.
CHECKS = 4
# Anyone may ask for collections that there are not: of these, the ones asked for last are remembered.
MOST_UNOPENED = 64


class Service:
    """One server's state; made once, used by all requests, closed at the end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home: Path = home_of(settings)
        self.workers = Workers(settings.max_streams)
        self.keys = KeyStore(self.home)
        self.audit = Audit(self.home)
        # Who can read it may do everything: for other commands of the user who runs the server.
        self.local_token = secrets.token_urlsafe(32)
        self.checks = Workers(CHECKS)
        self.metrics = Metrics(lambda: self.workers.free, lambda: self._knowledge_base.endpoints())
        self.maps = Maps()
        self._lock = threading.Lock()
        self.ledger = Ledger(self.home)
        self._knowledge_base = KnowledgeBase(settings=settings)
        self.telemetry = make_telemetry(settings)
        self.telemetry.observe(self.metrics.figures(), self.metrics.figures)
        self._others: dict[str, KnowledgeBase] = {}
        self._jobs: Jobs | None = None
        self._claim: int | None = None

    @property
    def jobs(self) -> Jobs:
        """What writes to the collections, and its history; read from the server's folder at first use.

        Raises `ServerError` where another server uses the folder.
        """
        with self._lock:
            if self._jobs is None:
                if self._claim is None:
                    self._claim = claim(make_home(self.home))
                uploads.clear(self.home)
                self._jobs = Jobs(self.home / "jobs.sqlite")
            return self._jobs

    @property
    def keys_required(self) -> bool:
        """Whether a request needs a key: where there is one, and on every address that other machines reach."""
        return not is_loopback(self.settings.host) or self.keys.exist()

    @cached_property
    def model(self) -> str:
        """The name of the model that writes answers; empty without one."""
        from citekite.answer.generate import make_generator

        generator = make_generator(self.settings)
        return generator.model if generator else ""

    @cached_property
    def embedder(self) -> str:
        """The name of what embeds a collection that is made now; empty where the settings name none that can."""
        from citekite.embed.choose import make_embedder

        try:
            # Where no model is named, the endpoint is asked which it has, for the message alone: not for long.
            return make_embedder(self.settings.model_copy(update={"timeout": 1.0, "retry_seconds": 0.0})).name
        except CitekiteError:  # whoever makes one is told
            return ""

    def used(self, principal: Principal | None, use: ModelUse) -> None:
        """Note what a model took, for the key whose request it worked for."""
        self.metrics.called(use)
        self.ledger.add(principal or OWNER, use)

    def knowledge_base(self, principal: Principal, collection: str | None = None) -> KnowledgeBase:
        """The knowledge base of a collection (by default that of the settings), as this caller may see it.

        Raises `AccessDenied` for a collection that the key is not for, `SettingsError` for a name that cannot be one.
        """
        name = collection or self.default_for(principal)
        principal.require_collection(name)
        shared = self._shared(name)
        return shared if principal.groups is None else shared.restricted_to(principal.groups)

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Let what runs end within the time, cancel the rest, stop the job, then close every knowledge base."""
        await self.workers.close(grace_seconds)
        await self.checks.close()
        await asyncio.to_thread(self.stop_jobs)
        with self._lock:
            self._others.clear()
            self._knowledge_base.close()
            self.ledger.close()
            if self._claim is not None:
                os.close(self._claim)
                self._claim = None

    def default_for(self, principal: Principal) -> str:
        """The collection of the settings, or the first that the key is for."""
        if not principal.collections or self.settings.collection in principal.collections:
            return self.settings.collection
        return principal.collections[0]

    def stop_jobs(self) -> None:
        """Stop the running job after its batch, and start no other."""
        if self._jobs is not None:
            self._jobs.close()

    def _shared(self, name: str) -> KnowledgeBase:
        if name == self.settings.collection:
            return self._knowledge_base
        with self._lock:
            kb = self._others.pop(name, None) or self._knowledge_base.in_collection(name)
            self._others[name] = kb  # as the latest
            unopened = [each for each, other in self._others.items() if not other.is_open()]
            for each in unopened[:-MOST_UNOPENED]:
                del self._others[each]
            return kb
