from __future__ import annotations

from datetime import UTC
from typing import Any, Final

import grpc
from dynamicagents.execution.v1 import (
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    session_pb2,
)

from libs import chat, identity, masks
from services.execution.model.executions import Status
from services.execution.model.sessions import MadeChange, Session, SessionMessage
from services.execution.service.executions import Executions
from services.execution.service.listing import ExecutionQuery, Listing
from services.execution.service.sessions import ChangeQuery, SessionQuery, Sessions
from services.execution.servicer.translation import to_data, to_execution

Context = grpc.aio.ServicerContext[Any, Any]

_CHANGEABLE: Final = ("state", "summary", "metadata")


_STATUS: Final = {
    execution_pb2.EXECUTION_STATUS_RUNNING: Status.RUNNING,
    execution_pb2.EXECUTION_STATUS_COMPLETED: Status.COMPLETED,
    execution_pb2.EXECUTION_STATUS_FAILED: Status.FAILED,
    execution_pb2.EXECUTION_STATUS_CANCELLED: Status.CANCELLED,
    execution_pb2.EXECUTION_STATUS_QUEUED: Status.QUEUED,
    execution_pb2.EXECUTION_STATUS_INPUT_REQUIRED: Status.INPUT_REQUIRED,
    execution_pb2.EXECUTION_STATUS_WAITING: Status.WAITING,
}


class SessionMethods(execution_service_pb2_grpc.ExecutionServiceServicer):
    """The methods of ExecutionService that are about many runs: sessions, and lists."""

    _executions: Executions
    _sessions: Sessions
    _listing: Listing

    async def ListExecutions(
        self, request: execution_service_pb2.ListExecutionsRequest, context: Context
    ) -> execution_service_pb2.ListExecutionsResponse:
        query = ExecutionQuery(
            request.agent_id,
            request.session_id,
            request.user_id,
            request.team_id,
            request.workflow_id,
            tuple(_STATUS[status] for status in request.statuses),
            request.created_from.ToDatetime(UTC) if request.HasField("created_from") else None,
            request.created_before.ToDatetime(UTC) if request.HasField("created_before") else None,
        )
        found, token = await self._listing.list(identity.current(), request.page_size, request.page_token, query)
        return execution_service_pb2.ListExecutionsResponse(executions=map(to_execution, found), next_page_token=token)

    async def ListSessions(
        self, request: execution_service_pb2.ListSessionsRequest, context: Context
    ) -> execution_service_pb2.ListSessionsResponse:
        query = SessionQuery(request.user_id, request.agent_id)
        found, token = await self._sessions.list(identity.current(), request.page_size, request.page_token, query)
        listed = [to_session(session, with_state=False) for session in found]
        return execution_service_pb2.ListSessionsResponse(sessions=listed, next_page_token=token)

    async def GetSession(
        self, request: execution_service_pb2.GetSessionRequest, context: Context
    ) -> execution_service_pb2.GetSessionResponse:
        at = request.state_at.ToDatetime(UTC) if request.HasField("state_at") else None
        session, messages = await self._sessions.get(identity.current(), request.session_id, request.max_messages, at)
        return execution_service_pb2.GetSessionResponse(
            session=to_session(session), messages=[_message(message) for message in messages]
        )

    async def ListStateChanges(
        self, request: execution_service_pb2.ListStateChangesRequest, context: Context
    ) -> execution_service_pb2.ListStateChangesResponse:
        query = ChangeQuery(request.session_id, request.agent_id)
        found, token = await self._sessions.changes(identity.current(), request.page_size, request.page_token, query)
        return execution_service_pb2.ListStateChangesResponse(changes=map(_change, found), next_page_token=token)

    async def UpdateSession(
        self, request: execution_service_pb2.UpdateSessionRequest, context: Context
    ) -> execution_service_pb2.UpdateSessionResponse:
        given = request.session
        values = {
            "state": to_data(given.state, "session.state"),
            "summary": given.summary,
            "metadata": dict(given.metadata),
        }
        named = masks.paths(request.update_mask, session_pb2.Session.DESCRIPTOR, _CHANGEABLE)
        changes = {name: values[name] for name in named}
        made = await self._sessions.update(identity.current(), given.session_id, given.etag, changes)
        return execution_service_pb2.UpdateSessionResponse(session=to_session(made))

    async def DeleteSession(
        self, request: execution_service_pb2.DeleteSessionRequest, context: Context
    ) -> execution_service_pb2.DeleteSessionResponse:
        caller = identity.current()
        deleted = await self._sessions.delete(
            caller,
            request.session_id,
            lambda execution_id: self._executions.cancel(caller, execution_id, "session deleted"),
        )
        return execution_service_pb2.DeleteSessionResponse(deleted_executions=deleted)


def to_session(session: Session, *, with_state: bool = True) -> session_pb2.Session:
    return session_pb2.Session(
        session_id=session.session_id,
        user_id=session.user_id,
        agent_ids=session.agent_ids,
        summary=session.summary,
        state=dict(session.state) if with_state else None,
        state_version=session.state_version,
        metadata=session.metadata,
        message_count=session.message_count,
        etag=session.etag,
        create_time=session.create_time,
        update_time=session.update_time,
    )


def _change(made: MadeChange) -> session_pb2.StateChange:
    return session_pb2.StateChange(
        session_id=made.session_id,
        version=made.change.version,
        set=dict(made.change.set),
        removed=made.change.removed,
        subject=made.by.subject,
        agent_id=made.by.agent_id,
        execution_id=made.by.execution_id,
        call_id=made.by.call_id,
        time=made.time,
    )


def _message(message: SessionMessage) -> session_pb2.SessionMessage:
    return session_pb2.SessionMessage(
        message=chat.from_dict(message.message), execution_id=message.execution_id, create_time=message.create_time
    )
