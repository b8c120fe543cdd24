/*
 * A host that uses another librdkafka, the system's, with all its symbols global, beside the one inside the plugin:
 * each writes to the same topic with its own code, and both records are read.
 */
#include "octopus.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const octopus_api *octopus;

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s\n", what);
        exit(1);
    }
}
#define EXPECT(condition) expect(condition, #condition)

static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    expect(found != NULL, name);
    return found;
}

/* The neighbour's functions, as its header declares them; rd_kafka_t and the like are only handed on. */
static void push_by_the_neighbour(void *neighbour, const char *bootstrap, const char *topic)
{
    void *(*conf_new)(void), *(*make)(int, void *, char *, size_t), *(*topic_new)(void *, const char *, void *);
    int (*conf_set)(void *, const char *, const char *, char *, size_t), (*flush)(void *, int);
    int (*produce)(void *, int32_t, int, void *, size_t, const void *, size_t, void *);
    void (*topic_destroy)(void *), (*destroy)(void *);
    *(void **)&conf_new = symbol(neighbour, "rd_kafka_conf_new");
    *(void **)&conf_set = symbol(neighbour, "rd_kafka_conf_set");
    *(void **)&make = symbol(neighbour, "rd_kafka_new");
    *(void **)&topic_new = symbol(neighbour, "rd_kafka_topic_new");
    *(void **)&produce = symbol(neighbour, "rd_kafka_produce");
    *(void **)&flush = symbol(neighbour, "rd_kafka_flush");
    *(void **)&topic_destroy = symbol(neighbour, "rd_kafka_topic_destroy");
    *(void **)&destroy = symbol(neighbour, "rd_kafka_destroy");

    char why[256];
    void *conf = conf_new();
    EXPECT(conf_set(conf, "bootstrap.servers", bootstrap, why, sizeof why) == 0);
    void *client = make(0 /* RD_KAFKA_PRODUCER */, conf, why, sizeof why);
    EXPECT(client != NULL);
    void *handle = topic_new(client, topic, NULL);
    EXPECT(handle != NULL);
    /* 10 bytes of metadata: the length of the text, 2, and the text; no data. */
    char record[] = "\x0a\0\0\0\0\0\0\0" "\0\0\0\0\0\0\0\0" "\x02\0\0\0\0\0\0\0" "{}";
    EXPECT(produce(handle, 0, 2 /* RD_KAFKA_MSG_F_COPY */, record, 26, NULL, 0, NULL) == 0);
    EXPECT(flush(client, 30000) == 0);
    topic_destroy(handle);
    destroy(client);
}

int main(int argc, char **argv)
{
    void *neighbour = dlopen("librdkafka.so.1", RTLD_NOW | RTLD_GLOBAL);
    EXPECT(neighbour != NULL);
    void *library = argc == 4 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    const octopus_api *(*register_octopus)(uint32_t) = NULL;
    *(void **)&register_octopus = library ? dlsym(library, "octopus_register") : NULL;
    if (!register_octopus)
        return fprintf(stderr, "usage: %s LIBRARY BOOTSTRAP TOPIC\n", argv[0]), 1;
    octopus = register_octopus(OCTOPUS_ABI_MAJOR);

    char config[512];
    int length = snprintf(config, sizeof config, "{\"kafka\": {\"bootstrap.servers\": \"%s\"}}", argv[2]);
    octopus_create_topic_args topic_args = {.size = sizeof topic_args,
                                            .options = OCTOPUS_TEXT("{\"replication_factor\": 1}")};
    octopus_consumer_args consumer_args = {.size = sizeof consumer_args, .name = {argv[3], strlen(argv[3])}};
    octopus_push_args push_args = {.size = sizeof push_args};
    octopus_text name = {argv[3], strlen(argv[3])};
    octopus_driver *driver;
    octopus_topic *topic;
    octopus_producer *producer;
    octopus_consumer *consumer;
    octopus_future *push;
    EXPECT(octopus->driver->create((octopus_text){config, (uint64_t)length}, NULL, &driver, NULL) == OCTOPUS_OK);
    EXPECT(octopus->driver->create_topic(driver, name, &topic_args, NULL) == OCTOPUS_OK);
    EXPECT(octopus->driver->open_topic(driver, name, &topic, NULL) == OCTOPUS_OK);
    EXPECT(octopus->topic->make_producer(topic, NULL, &producer, NULL) == OCTOPUS_OK);
    EXPECT(octopus->topic->make_consumer(topic, &consumer_args, &consumer, NULL) == OCTOPUS_OK);

    EXPECT(octopus->producer->push(producer, &push_args, &push, NULL) == OCTOPUS_OK);
    EXPECT(octopus->future->wait(push, 30000, NULL) == OCTOPUS_OK);
    push_by_the_neighbour(neighbour, argv[2], argv[3]);
    octopus_event *events[2];
    for (uint64_t taken = 0, count = 0; taken < 2; taken += count)
        EXPECT(octopus->consumer->pull_many(consumer, 2 - taken, 30000, events + taken, &count, NULL) == OCTOPUS_OK);
    for (int index = 0; index < 2; index++) {
        octopus_event_view view = {.size = sizeof view};
        EXPECT(octopus->event->view(events[index], &view, NULL) == OCTOPUS_OK);
        EXPECT(view.id == (uint64_t)index && view.metadata.size == 2);
        octopus->event->release(events[index]);
    }
    octopus->future->release(push);
    EXPECT(octopus->consumer->close(consumer, 30000, NULL) == OCTOPUS_OK);
    octopus->consumer->release(consumer);
    octopus->producer->release(producer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    puts("both libraries wrote, and both records were read");
    return 0;
}
