"""Lists the sessions, then watches them until the session "second" is ready. Knows nothing but the contract."""

import sys

import grpc
from drover.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

address, authority, token_file = sys.argv[1:]
with open(authority, "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
with open(token_file, encoding="utf-8") as file:
    token = file.read().strip()
both = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
state = session_pb2.SessionState.Name

with grpc.secure_channel(address, both) as channel:
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)
    listed = sessions.ListSessions(session_service_pb2.ListSessionsRequest(), timeout=60)
    for session in listed.sessions:
        print("listed", session.name, state(session.state), session.last_run.exit_code)
    for change in sessions.WatchSessions(session_service_pb2.WatchSessionsRequest(), timeout=100):
        if change.HasField("caught_up"):
            print("caught up")
        if change.HasField("session"):
            print("watched", change.session.name, state(change.session.state))
            if change.session.name == "second" and change.session.state == session_pb2.SESSION_STATE_READY:
                break
