"""A form that brings files along: read within bounds, from our own page only, its files packed as those of a job."""

from __future__ import annotations

import hmac
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import IO

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from ugro_py import paths
from ugro_py.api.auth import Caller
from ugro_py.api.guard import BODY_LIMIT, FORM_LIMIT
from ugro_py.api.statuses import NoRoomError, TooMuchError
from ugro_py.api.uploads import Incoming, Uploads, check_room
from ugro_py.errors import UgroError, UsageError
from ugro_py.queue import spool, spool_tar
from ugro_py.stage import bundle
from ugro_py.web.launch_fields import FILES
from ugro_py.web.security import FORGERY_HEADER, StaleFormError, check_origin, fields_of
from ugro_py.web.sent_files import MOST_FILES, Named, Sent, gather
from ugro_py.web.session import forgery_token
from ugro_py.web.typed import Typed

_KINDS = ("multipart/form-data", "application/x-www-form-urlencoded")
_MOST_FIELDS = 100
_TOO_MUCH = re.compile("too many|exceeded maximum size", re.IGNORECASE)
"""How Starlette tells of a form that has more in it than is taken."""
_BLOCK = 1 << 20


@dataclass
class UploadForm:
    """A form that was read: its `fields`, and the files that were chosen, unless it was `refused`."""

    fields: dict[str, str]
    sent: Sent
    refused: UgroError | None
    _chosen: Collection[str]
    _user: str
    _uploads: Uploads
    _incoming: Incoming | None

    def again(self) -> list[str]:
        """Return the fields that a page made anew cannot have filled in: chosen files, and secrets."""
        chosen = [name for name in FILES if name in self._chosen]
        return [*chosen, *(["secrets"] if self.fields.get("secrets", "").strip() else [])]

    async def upload(self) -> tuple[str | None, str | None]:
        """Take its files in as POST /v1/uploads does: returns the name of the upload, and which file is to be run.

        Both are None where the form has none.

        Raises:
            UsageError: the files cannot be used.
            RightsError, StateError: the user has too many uploads, or there is no room.
        """
        if not self.sent:
            return None, None
        if self._incoming is not None:
            return await self._taken(self._incoming)
        # It has its turn before anything is unpacked: a small form may hold a large archive.
        await self._uploads.turn(self._user)
        with self._uploads.receive(self._user, 0) as incoming:
            return await self._taken(incoming)

    async def _taken(self, incoming: Incoming) -> tuple[str, str]:
        with tempfile.TemporaryFile(dir=paths.data_dir()) as packed:
            entry = await run_in_threadpool(_gather, self.sent, packed)
            while block := await run_in_threadpool(packed.read, _BLOCK):
                await incoming.add(block)
        name, _ = await incoming.unpacked()
        return name, entry


@asynccontextmanager
async def read_upload_form(request: Request, who: Caller) -> AsyncIterator[UploadForm]:
    """Read a form that one of our own pages sent; what it brought along is gone when the block ends.

    A large form is one of its user's uploads already while it comes, and is counted as one. One that is not taken, as
    it brings too much along or there is no room, is read to its end for what was typed into it; `refused` says why.

    Raises:
        RightsError: it comes from elsewhere, or is out of date.
        UsageError: it is no form.
    """
    check_origin(request)
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    if kind not in _KINDS:
        raise UsageError("this form", "is not multipart/form-data", "use the form of the page")
    uploads: Uploads = request.app.state.submissions.uploads
    announced = request.headers.get("content-length")
    typed = Typed(request)
    found: list[tuple[str, str | UploadFile]] = []
    async with AsyncExitStack() as stack:
        incoming, refused = None, None
        try:
            if announced is not None and int(announced) > FORM_LIMIT:
                said = f"are {int(announced) / 2**20:,.0f} MB, {(FORM_LIMIT - BODY_LIMIT) >> 20} MB are taken here"
                raise TooMuchError("files", said, "leave out what the job needs not, or use `ugro launch`")
            if announced is None or int(announced) > BODY_LIMIT:
                await uploads.turn(who.person.user)
                incoming = stack.enter_context(uploads.receive(who.person.user, int(announced or 0)))
            if kind == _KINDS[0]:
                form = Request(request.scope, typed.receive).form(max_files=MOST_FILES + 4, max_fields=_MOST_FIELDS)
                found = (await stack.enter_async_context(form)).multi_items()
            else:
                found = [*(await fields_of(request)).items()]
        except HTTPException as error:
            if error.status_code != 400:
                raise
            refused = _refused(str(error.detail))
        except UgroError as error:
            if kind != _KINDS[0]:
                raise
            refused = error
        if refused is not None:
            await typed.rest()
            if not typed.fields:
                raise refused
        fields = typed.fields if refused else {name: value for name, value in found if isinstance(value, str)}
        given = request.headers.get(FORGERY_HEADER) or fields.pop("csrf", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), forgery_token(request).encode()):
            raise StaleFormError(fields)
        files: dict[str, list[Named]] = {name: [] for name in FILES}
        for name, value in found:
            if isinstance(value, UploadFile) and name in files and value.filename:
                files[name].append((value.filename, value.file))
        sent = Sent(code=fields.get("code", ""), entry=fields.get("entry", ""), **files)
        chosen = typed.chosen if refused else [name for name in FILES if files[name]]
        yield UploadForm(fields, sent, refused, chosen, who.person.user, uploads, incoming)


def _refused(said: str) -> UgroError:
    """Return the error of a form that Starlette does not take."""
    if not _TOO_MUCH.search(said):
        return UsageError("this form", said, "leave out what the job needs not")
    what = "files" if "files" in said else "this form"
    return TooMuchError(what, said, "leave out what the job needs not, or use `ugro launch`")


def _gather(sent: Sent, packed: IO[bytes]) -> str:
    """Pack all files for an upload; returns which of them is to be run."""
    folder = spool.new_folder()  # on the disk whose room is looked after; what a crash leaves there is removed
    try:
        check_room()
        entry = gather(sent, folder)
        spool_tar.pack(spool.Sources(bundle(folder)), packed)
        packed.seek(0)
        return entry
    except OSError as error:
        raise NoRoomError("take in the files of a job", error.strerror or str(error), "make room") from error
    finally:
        shutil.rmtree(folder)
