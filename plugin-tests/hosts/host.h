/* Shared by hosts in C: loads the library by path, and creates clients and topics. */

#ifndef HOST_H
#define HOST_H

#include "octopus.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Ends the process by _exit if the condition is false, since some hosts test what runs at an
 * orderly exit. */
#define EXPECT(condition) expect((condition), #condition, __FILE__, __LINE__)

static inline void expect(int holds, const char *what, const char *file, int line)
{
    if (holds)
        return;
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    _exit(1);
}

/* As EXPECT, for a call that must succeed. The call must pass `error` as its error argument. */
#define SUCCEEDS(octopus, call)                                           \
    do {                                                                  \
        octopus_error *object_ = NULL, **error = &object_;                \
        octopus_status status_ = (call);                                  \
        octopus_text why_ = (octopus)->error->message(object_);           \
        if (status_ != OCTOPUS_OK)                                        \
            fprintf(stderr, "status %d: %.*s\n", status_, (int)why_.size, \
                    why_.size > 0 ? why_.data : "");                      \
        EXPECT(status_ == OCTOPUS_OK && #call);                           \
    } while (0)

static inline octopus_text text(const char *from)
{
    octopus_text made = {from, strlen(from)};
    return made;
}

static inline const octopus_api *registered(void *library)
{
    const octopus_api *(*entry)(uint32_t) = NULL;
    if (!library)
        fprintf(stderr, "%s\n", dlerror());
    EXPECT(library != NULL);
    *(void **)&entry = dlsym(library, "octopus_register");
    EXPECT(entry != NULL);
    const octopus_api *octopus = entry(OCTOPUS_ABI_MAJOR);
    EXPECT(octopus != NULL && octopus->abi_minor == OCTOPUS_ABI_MINOR);
    return octopus;
}

static inline const octopus_api *load(const char *path)
{
    return registered(dlopen(path, RTLD_NOW | RTLD_LOCAL));
}

static inline octopus_driver *make_driver(const octopus_api *octopus, const char *config,
                                          const octopus_host_services *services)
{
    octopus_driver *driver = NULL;
    SUCCEEDS(octopus, octopus->driver->create(text(config), services, &driver, error));
    return driver;
}

static inline octopus_topic *make_topic(const octopus_api *octopus, const octopus_driver *driver,
                                        const char *name)
{
    octopus_topic *topic = NULL;
    octopus_create_topic_args args;
    memset(&args, 0, sizeof args);
    args.size = sizeof args;
    args.options = text("{\"replication_factor\": 1}");
    SUCCEEDS(octopus, octopus->driver->create_topic(driver, text(name), &args, error));
    SUCCEEDS(octopus, octopus->driver->open_topic(driver, text(name), &topic, error));
    return topic;
}

static inline octopus_consumer *make_consumer(const octopus_api *octopus,
                                              const octopus_topic *topic, const char *group)
{
    octopus_consumer *consumer = NULL;
    octopus_consumer_args args;
    memset(&args, 0, sizeof args);
    args.size = sizeof args;
    args.name = text(group);
    SUCCEEDS(octopus, octopus->topic->make_consumer(topic, &args, &consumer, error));
    return consumer;
}

static inline octopus_producer *make_producer(const octopus_api *octopus,
                                              const octopus_topic *topic)
{
    octopus_producer *producer = NULL;
    SUCCEEDS(octopus, octopus->topic->make_producer(topic, NULL, &producer, error));
    return producer;
}

/* Pushes an event with this number as its metadata. */
static inline octopus_future *push(const octopus_api *octopus, const octopus_producer *producer,
                                   uint64_t number)
{
    char metadata[32];
    octopus_future *future = NULL;
    octopus_push_args event;
    memset(&event, 0, sizeof event);
    event.size = sizeof event;
    event.metadata.size = (uint64_t)snprintf(metadata, sizeof metadata, "%llu",
                                             (unsigned long long)number);
    event.metadata.data = (const uint8_t *)metadata;
    SUCCEEDS(octopus, octopus->producer->push(producer, &event, &future, error));
    return future;
}

static inline void deliver(const octopus_api *octopus, const octopus_producer *producer,
                           uint64_t number)
{
    octopus_future *future = push(octopus, producer, number);
    SUCCEEDS(octopus, octopus->future->wait(future, 60000, error));
    octopus->future->release(future);
}

/* Pulls and acknowledges the next event and returns its number. */
static inline uint64_t pull(const octopus_api *octopus, const octopus_consumer *consumer)
{
    octopus_event *event = NULL;
    octopus_event_view view;
    uint64_t count = 0;
    char metadata[32] = "";
    memset(&view, 0, sizeof view);
    view.size = sizeof view;
    SUCCEEDS(octopus, octopus->consumer->pull_many(consumer, 1, 60000, &event, &count, error));
    SUCCEEDS(octopus, octopus->event->view(event, &view, error));
    EXPECT(count == 1 && view.metadata.size < sizeof metadata);
    memcpy(metadata, view.metadata.data, view.metadata.size);
    SUCCEEDS(octopus, octopus->event->acknowledge(event, error));
    octopus->event->release(event);
    return strtoull(metadata, NULL, 10);
}

#endif
