/*
 * A host that leaves while everything is open: events in flight, a thread in a pull, another in process, tasks waiting
 * in a pool, callbacks registered, the library closed by dlclose. The process ends at once and without a crash.
 */
#include "octopus.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const octopus_api *octopus;
static octopus_consumer *consumer, *processed;
static octopus_thread_pool *pool;

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s\n", what);
        exit(1);
    }
}
#define EXPECT(condition) expect(condition, #condition)

static void *pull(void *unused)
{
    octopus_future *ticket;
    (void)unused;
    EXPECT(octopus->consumer->pull(consumer, &ticket, NULL) == OCTOPUS_OK);
    octopus->future->wait(ticket, -1, NULL);
    return NULL;
}

static int32_t go_on(void *context, octopus_event *event)
{
    (void)context, (void)event;
    usleep(1000);
    return OCTOPUS_GO_ON;
}

static void *process(void *unused)
{
    octopus_processor processor = {.function = go_on};
    (void)unused;
    octopus->consumer->process(processed, &processor, -1, UINT64_MAX, pool, NULL);
    return NULL;
}

static void completed(void *context, octopus_future *future)
{
    (void)context, (void)future;
}

static void work(void *context)
{
    (void)context;
    usleep(1000);
}

int main(int argc, char **argv)
{
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    const octopus_api *(*register_octopus)(uint32_t) = NULL;
    *(void **)&register_octopus = library ? dlsym(library, "octopus_register") : NULL;
    if (!register_octopus)
        return fprintf(stderr, "usage: %s LIBRARY [BOOTSTRAP TOPIC]\n", argv[0]), 1;
    octopus = register_octopus(OCTOPUS_ABI_MAJOR);
    char config[512] = "{\"embedded\": {}}";
    if (argc == 4)
        snprintf(config, sizeof config, "{\"kafka\": {\"bootstrap.servers\": \"%s\"}}", argv[2]);
    const char *topic_name = argc == 4 ? argv[3] : "topic";
    octopus_text name = {topic_name, strlen(topic_name)};
    octopus_create_topic_args topic_args = {.size = sizeof topic_args,
                                            .options = OCTOPUS_TEXT("{\"replication_factor\": 1}")};
    octopus_consumer_args consumer_args = {.size = sizeof consumer_args, .name = name};
    octopus_driver *driver;
    octopus_topic *topic;
    octopus_producer *producer, *pooled;
    EXPECT(octopus->driver->create((octopus_text){config, strlen(config)}, NULL, &driver, NULL) == OCTOPUS_OK);
    EXPECT(octopus->driver->create_topic(driver, name, &topic_args, NULL) == OCTOPUS_OK);
    EXPECT(octopus->driver->open_topic(driver, name, &topic, NULL) == OCTOPUS_OK);
    EXPECT(octopus->thread_pool->create(2, &pool, NULL) == OCTOPUS_OK);
    octopus_producer_args producer_args = {.size = sizeof producer_args, .thread_pool = pool};
    EXPECT(octopus->topic->make_producer(topic, NULL, &producer, NULL) == OCTOPUS_OK);
    EXPECT(octopus->topic->make_producer(topic, &producer_args, &pooled, NULL) == OCTOPUS_OK);
    EXPECT(octopus->topic->make_consumer(topic, &consumer_args, &consumer, NULL) == OCTOPUS_OK);
    EXPECT(octopus->topic->make_consumer(topic, &consumer_args, &processed, NULL) == OCTOPUS_OK);

    pthread_t threads[2];
    EXPECT(pthread_create(&threads[0], NULL, pull, NULL) == 0);
    EXPECT(pthread_create(&threads[1], NULL, process, NULL) == 0);
    octopus_push_args event = {.size = sizeof event};
    octopus_completion completion = {.function = completed};
    octopus_task task = {.function = work};
    for (int index = 0; index < 20000; index++) {
        octopus_future *push;
        EXPECT(octopus->producer->push(index % 2 ? producer : pooled, &event, &push, NULL) == OCTOPUS_OK);
        if (index % 100 == 0) {
            EXPECT(octopus->future->on_complete(push, &completion, NULL) == OCTOPUS_OK);
            EXPECT(octopus->thread_pool->submit(pool, &task, 0, NULL) == OCTOPUS_OK);
        }
        octopus->future->release(push);
    }
    EXPECT(dlclose(library) == 0);
    puts("leaving");
    return 0;
}
