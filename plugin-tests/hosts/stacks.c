/*
 * A program that links the library and has threads with small stacks: a thread that never calls the
 * library starts with a stack of 16 KiB, and each call works with 64 KiB.
 *
 *     stacks CONFIG TOPIC
 */
#include "host.h"

#include <pthread.h>

static const char *config, *topic_name;

/* Fails to start if the plugin's static thread-local storage does not fit into the stack. */
static void *do_nothing(void *unused)
{
    (void)unused;
    return NULL;
}

static octopus_text validator(void)
{
    /* As deep as any schema in practice. */
    static char json[4096] = "{\"type\": \"schema\", \"schema\": ";
    for (int depth = 0; depth < 30; depth++)
        strcat(json, "{\"properties\": {\"a\": ");
    strcat(json, "true");
    for (int depth = 0; depth < 30; depth++)
        strcat(json, "}}");
    strcat(json, "}");
    return text(json);
}

static void *call_everything(void *unused)
{
    (void)unused;
    const octopus_api *octopus = octopus_register(OCTOPUS_ABI_MAJOR);
    octopus_driver *driver = make_driver(octopus, config, NULL);
    octopus_create_topic_args args;
    memset(&args, 0, sizeof args);
    args.size = sizeof args;
    args.options = text("{\"replication_factor\": 1}");
    args.validator = validator();
    octopus_topic *topic = NULL;
    SUCCEEDS(octopus, octopus->driver->create_topic(driver, text(topic_name), &args, error));
    SUCCEEDS(octopus, octopus->driver->open_topic(driver, text(topic_name), &topic, error));
    octopus_producer *producer = make_producer(octopus, topic);
    octopus_consumer *consumer = make_consumer(octopus, topic, topic_name);
    octopus_push_args event;
    memset(&event, 0, sizeof event);
    event.size = sizeof event;
    event.metadata = (octopus_bytes){(const uint8_t *)"1", 1};
    octopus_future *future;
    SUCCEEDS(octopus, octopus->producer->push(producer, &event, &future, error));
    SUCCEEDS(octopus, octopus->future->wait(future, 60000, error));
    octopus->future->release(future);
    static uint8_t large[20000];
    octopus_bytes data = {large, sizeof large};
    event.segments = &data;
    event.segment_count = 1;
    SUCCEEDS(octopus, octopus->producer->push(producer, &event, &future, error));
    SUCCEEDS(octopus, octopus->future->wait(future, 60000, error));
    octopus->future->release(future);
    EXPECT(pull(octopus, consumer) == 1);
    EXPECT(pull(octopus, consumer) == 1);
    SUCCEEDS(octopus, octopus->consumer->commit(consumer, 60000, error));
    uint64_t offset;
    SUCCEEDS(octopus, octopus->consumer->committed(consumer, 0, &offset, error));
    EXPECT(offset == 2);
    octopus_string *json;
    SUCCEEDS(octopus, octopus->driver->list_topics(driver, &json, error));
    octopus->string->release(json);
    SUCCEEDS(octopus, octopus->driver->describe(driver, &json, error));
    octopus->string->release(json);
    octopus_error *object = NULL;
    octopus_topic *none = NULL;
    EXPECT(octopus->driver->open_topic(driver, text("not a name"), &none, &object) < 0);
    octopus->error->release(object);
    octopus->topic->release(topic);
    SUCCEEDS(octopus, octopus->producer->close(producer, 60000, error));
    SUCCEEDS(octopus, octopus->consumer->close(consumer, 60000, error));
    octopus->consumer->release(consumer);
    octopus->producer->release(producer);
    octopus->driver->release(driver);
    return NULL;
}

static void run(size_t stack, void *(*body)(void *))
{
    pthread_attr_t attributes;
    pthread_t thread;
    EXPECT(pthread_attr_init(&attributes) == 0);
    EXPECT(pthread_attr_setstacksize(&attributes, stack) == 0);
    EXPECT(pthread_create(&thread, &attributes, body, NULL) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return fprintf(stderr, "usage: %s CONFIG TOPIC\n", argv[0]), 1;
    config = argv[1], topic_name = argv[2];
    run(16 * 1024, do_nothing);
    run(64 * 1024, call_everything);
    puts("small stacks are enough");
    return 0;
}
