"""Uses the environment that Globus' diaspora-event-sdk leaves behind, in the process of the SDK:

    globus.py URL SUBJECT TOKEN REGION

The SDK's own client asks the topic service for the key and creates a topic. Only its login and the service's address
are replaced. Then Octopus, with the option `globus`, pushes to the topic and reads it. Prints the namespace of the SDK,
and the data that Octopus has read."""

import sys

import diaspora_octopus as octopus
import globus_sdk
from diaspora_event_sdk.sdk import client as sdk_client
from diaspora_event_sdk.sdk import kafka_client

url, subject, token, region = sys.argv[1:]
sdk_client.get_web_service_url = lambda *_: url
globus_sdk.AuthClient.userinfo = lambda _: {"sub": subject}
logged_in = sdk_client.Client(authorizer=globus_sdk.AccessTokenAuthorizer(token))
kafka_client.Client = lambda: logged_in

kafka_client.get_diaspora_config()
logged_in.create_topic("from-sdk")
driver = octopus.Driver({"globus": {"region": region}, "kafka": {"security.protocol": "SASL_PLAINTEXT"}})
topic = driver.open_topic(f"{logged_in.namespace}.from-sdk")
with topic.producer(records="json") as producer:
    producer.push({"by": "octopus"}).wait(60)
with topic.consumer("reader", records="json") as consumer:
    event = consumer.pull(60)
print(logged_in.namespace, event.metadata)
