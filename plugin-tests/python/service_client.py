"""Makes one call with the client of diaspora-event-sdk.

    service_client.py URL SUBJECT TOKEN list|create|delete|recreate [NS TOPIC]

Prints the service's response as JSON, or `REFUSED status message`.
"""

import json
import sys

import globus_sdk
from diaspora_event_sdk.sdk.web_client import WebClient

url, subject, token, verb, *names = sys.argv[1:]
client = WebClient(base_url=url, authorizer=globus_sdk.AccessTokenAuthorizer(token))
calls = {
    "list": client.list_namespaces,
    "create": client.create_topic,
    "delete": client.delete_topic,
    "recreate": client.recreate_topic,
}
try:
    print(json.dumps(calls[verb](subject, *names).data))
except globus_sdk.GlobusAPIError as error:
    print("REFUSED", error.http_status, error.message)
